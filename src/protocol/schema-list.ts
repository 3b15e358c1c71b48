import type { TSchema } from "@sinclair/typebox";
import { isJsonObject, type Json, type JsonObject } from "../lib/json.ts";
import { ownFormats } from "../lib/schema.ts";

/**
 * Collects the schemas of a document, as JSON Schema draft-07. Each named schema is listed once under its name, and referenced
 * wherever it is used.
 */
export function createSchemaList(path: string) {
  const listed = new Map<string, JsonObject>();

  function map(schema: Json, isOpen: boolean): Json {
    if (Array.isArray(schema)) return schema.map((one) => map(one, isOpen));
    if (!isJsonObject(schema)) return schema;
    const mapped: JsonObject = {};
    for (const [keyword, value] of Object.entries(schema)) {
      if (keyword === "title" || (keyword === "format" && ownFormats.has(value))) continue;
      if (keyword === "additionalProperties" && value === false && isOpen) continue;
      if (keyword === "properties" && isJsonObject(value))
        mapped.properties = Object.fromEntries(Object.entries(value).map(([name, one]) => [name, map(one, isOpen)]));
      else if (keyword === "patternProperties" && isJsonObject(value))
        // This is how TypeBox represents a record with arbitrary keys.
        mapped.additionalProperties = map(Object.values(value)[0] ?? true, isOpen);
      else mapped[keyword] = keyword === "enum" || keyword === "required" ? value : map(value, isOpen);
    }
    return typeof schema.title === "string" ? refer(schema.title, mapped) : mapped;
  }

  function refer(name: string, schema: JsonObject): JsonObject {
    const known = listed.get(name);
    if (known && JSON.stringify(known) !== JSON.stringify(schema))
      throw new Error(`Two schemas have the name ${name}.`);
    listed.set(name, schema);
    return { $ref: `${path}${name}` };
  }

  return {
    /**
     * Adds a schema and its nested schemas, and returns the reference to use.
     * @param isOpen whether to omit `additionalProperties: false`, because receivers must accept unknown properties.
     * @throws Error if two different schemas have the same name.
     */
    add: (schema: TSchema, { isOpen }: { isOpen: boolean }): JsonObject =>
      // Converting to JSON and back drops TypeBox's symbols.
      map(JSON.parse(JSON.stringify(schema)) as JsonObject, isOpen) as JsonObject,

    /** Returns all schemas, ordered by name. */
    all: (): JsonObject => Object.fromEntries([...listed].sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}
