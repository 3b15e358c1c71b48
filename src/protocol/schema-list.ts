import type { TSchema } from "@sinclair/typebox";
import { isJsonObject, type Json, type JsonObject } from "../lib/json.ts";
import { customFormats } from "../lib/schema.ts";

/**
 * Creates a list of a document's schemas in JSON Schema draft-07. Each named schema is listed once and referenced everywhere else.
 */
export function createSchemaList(path: string) {
  const schemas = new Map<string, JsonObject>();

  function mapSchema(schema: Json, isOpen: boolean): Json {
    if (Array.isArray(schema)) return schema.map((inner) => mapSchema(inner, isOpen));
    if (!isJsonObject(schema)) return schema;
    const mapped: JsonObject = {};
    for (const [keyword, value] of Object.entries(schema)) {
      if (keyword === "title" || (keyword === "format" && customFormats.has(value))) continue;
      if (keyword === "additionalProperties" && value === false && isOpen) continue;
      if (keyword === "properties" && isJsonObject(value))
        mapped.properties = Object.fromEntries(
          Object.entries(value).map(([name, inner]) => [name, mapSchema(inner, isOpen)]),
        );
      else if (keyword === "patternProperties" && isJsonObject(value))
        // TypeBox represents a record with arbitrary keys like this.
        mapped.additionalProperties = mapSchema(Object.values(value)[0] ?? true, isOpen);
      else mapped[keyword] = keyword === "enum" || keyword === "required" ? value : mapSchema(value, isOpen);
    }
    return typeof schema.title === "string" ? addAndReference(schema.title, mapped) : mapped;
  }

  function addAndReference(name: string, schema: JsonObject): JsonObject {
    const existingSchema = schemas.get(name);
    if (existingSchema && JSON.stringify(existingSchema) !== JSON.stringify(schema))
      throw new Error(`Two schemas have the name ${name}.`);
    schemas.set(name, schema);
    return { $ref: `${path}${name}` };
  }

  return {
    /**
     * Adds a schema and its nested schemas. Returns the reference to the schema.
     * @param isOpen whether to omit `additionalProperties: false`, because receivers must accept unknown properties.
     * @throws Error if two different schemas have the same name.
     */
    add: (schema: TSchema, { isOpen }: { isOpen: boolean }): JsonObject =>
      // Converting to JSON and back drops TypeBox's symbols.
      mapSchema(JSON.parse(JSON.stringify(schema)) as JsonObject, isOpen) as JsonObject,

    /** Returns all schemas, ordered by name. */
    listSchemas: (): JsonObject => Object.fromEntries([...schemas].sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}
