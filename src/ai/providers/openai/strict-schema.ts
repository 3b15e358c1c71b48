import { asFields } from "../../fields.ts";
import { everySchema, isObjectSchema, isStrictObject } from "../../format/walk-schema.ts";

/** The keywords that OpenAI accepts in strict mode. */
const strictKeywords = new Set(
  (
    "$schema $defs definitions $ref title description type enum const anyOf properties required additionalProperties " +
    "items pattern format multipleOf minimum maximum exclusiveMinimum exclusiveMaximum minItems maxItems"
  ).split(" "),
);

/**
 * Whether OpenAI can enforce a schema. Each object must require all of its properties and allow no others, and only certain
 * keywords are supported. Otherwise, OpenAI sends the schema to the model without enforcing it.
 */
export function supportsStrictMode(schema: unknown): boolean {
  const { type, anyOf } = asFields(schema);
  return type === "object" && anyOf === undefined && everySchema(schema, isStrictSchema);
}

function isStrictSchema(schema: unknown): boolean {
  const fields = asFields(schema);
  if (fields.$ref !== undefined) return Object.keys(fields).length === 1;
  return (
    Object.keys(fields).every((keyword) => strictKeywords.has(keyword)) &&
    (!isObjectSchema(fields) || isStrictObject(fields))
  );
}
