import type { TSchema } from "@sinclair/typebox";
import { isJsonObject, type Json, type JsonObject } from "../lib/json.ts";
import { ownFormats } from "../lib/schema.ts";

/**
 * The schemas of a document, as JSON Schema draft-07: each named schema is listed once, below its name, and referred to
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
        // TypeBox's way to say that any key will do.
        mapped.additionalProperties = map(Object.values(value)[0] ?? true, isOpen);
      else mapped[keyword] = keyword === "enum" || keyword === "required" ? value : map(value, isOpen);
    }
    return typeof schema.title === "string" ? refer(schema.title, mapped) : mapped;
  }

  function refer(name: string, schema: JsonObject): JsonObject {
    const known = listed.get(name);
    if (known && JSON.stringify(known) !== JSON.stringify(schema))
      throw new Error(`There are two schemas with the name ${name}.`);
    listed.set(name, schema);
    return { $ref: `${path}${name}` };
  }

  return {
    /**
     * Lists a schema and those in it, and returns what to write where it is used.
     * @param isOpen leaves out that there are no other properties: who receives it must not insist on that.
     * @throws Error when two schemas have the same name.
     */
    add: (schema: TSchema, { isOpen }: { isOpen: boolean }): JsonObject =>
      // A round trip drops what is no JSON: the symbols of TypeBox.
      map(JSON.parse(JSON.stringify(schema)) as JsonObject, isOpen) as JsonObject,

    /** All schemas, in the order of their names. */
    all: (): JsonObject => Object.fromEntries([...listed].sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}
