import type { Json, JsonObject } from "../../../src/lib/json.ts";

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Keywords whose values are data, not schemas. */
const dataKeywords = new Set(["enum", "const", "default", "example", "examples", "required"]);

/**
 * Converts a document's schemas to JSON Schema (draft-07) that rejects undocumented fields. Clients must ignore such
 * fields, but Parley must not send any. Also converts two features of OpenAPI 3.0: `nullable`, and boolean exclusive
 * bounds.
 */
export function disallowExtraFields(schema: Json): Json {
  if (Array.isArray(schema)) return schema.map(disallowExtraFields);
  if (!isObject(schema)) return schema;
  const { nullable, ...rest } = schema;
  const strict: JsonObject = {};
  for (const [key, value] of Object.entries(rest))
    strict[key] = dataKeywords.has(key)
      ? value
      : key === "properties" && isObject(value)
        ? Object.fromEntries(Object.entries(value).map(([name, property]) => [name, disallowExtraFields(property)]))
        : disallowExtraFields(value);
  if (isObject(rest.properties) && rest.additionalProperties === undefined && rest.allOf === undefined)
    strict.additionalProperties = false;
  for (const [exclusive, bound] of [
    ["exclusiveMinimum", "minimum"],
    ["exclusiveMaximum", "maximum"],
  ] as const) {
    if (strict[exclusive] === true) {
      strict[exclusive] = strict[bound] as number;
      delete strict[bound];
    } else if (strict[exclusive] === false) delete strict[exclusive];
  }
  if (nullable !== true) return strict;
  // OpenAPI 3.0 has no null type, and uses `enum: [null]` instead.
  return Array.isArray(rest.enum) && rest.enum.includes(null)
    ? { enum: rest.enum }
    : { anyOf: [strict, { type: "null" }] };
}
