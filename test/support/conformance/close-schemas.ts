import type { Json, JsonObject } from "../../../src/lib/json.ts";

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Keywords whose values are data, not schemas. */
const data = new Set(["enum", "const", "default", "example", "examples", "required"]);

/**
 * The schemas of a document as JSON Schema (draft-07) that refuses fields the document doesn't name: clients must accept
 * these, but our own responses must not have any. Also maps OpenAPI 3.0's keywords: `nullable`, boolean exclusive bounds.
 */
export function closeSchemas(schema: Json): Json {
  if (Array.isArray(schema)) return schema.map(closeSchemas);
  if (!isObject(schema)) return schema;
  const { nullable, ...rest } = schema;
  const closed: JsonObject = {};
  for (const [key, value] of Object.entries(rest))
    closed[key] = data.has(key)
      ? value
      : key === "properties" && isObject(value)
        ? Object.fromEntries(Object.entries(value).map(([name, one]) => [name, closeSchemas(one)]))
        : closeSchemas(value);
  if (isObject(rest.properties) && rest.additionalProperties === undefined && rest.allOf === undefined)
    closed.additionalProperties = false;
  for (const [exclusive, bound] of [
    ["exclusiveMinimum", "minimum"],
    ["exclusiveMaximum", "maximum"],
  ] as const) {
    if (closed[exclusive] === true) {
      closed[exclusive] = closed[bound] as number;
      delete closed[bound];
    } else if (closed[exclusive] === false) delete closed[exclusive];
  }
  if (nullable !== true) return closed;
  // `enum: [null]` is OpenAPI 3.0's form of null.
  return Array.isArray(rest.enum) && rest.enum.includes(null)
    ? { enum: rest.enum }
    : { anyOf: [closed, { type: "null" }] };
}
