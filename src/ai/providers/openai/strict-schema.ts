import { readFields } from "../../fields.ts";
import { holdsForAll, isClosedObject, isObjectSchema } from "../../format/walk-schema.ts";

/** The keywords that OpenAI accepts in strict mode; any other is an error. */
const strictKeywords = new Set(
  (
    "$schema $defs definitions $ref title description type enum const anyOf properties required additionalProperties " +
    "items pattern format multipleOf minimum maximum exclusiveMinimum exclusiveMaximum minItems maxItems"
  ).split(" "),
);

/**
 * Whether OpenAI can enforce a schema: each object names and requires all of its fields and allows no others, and all
 * keywords are in its subset. Outside strict mode the model gets the schema as a hint.
 */
export function fitsStrictMode(schema: unknown): boolean {
  const { type, anyOf } = readFields(schema);
  return type === "object" && anyOf === undefined && holdsForAll(schema, isStrict);
}

function isStrict(schema: unknown): boolean {
  const fields = readFields(schema);
  if (fields.$ref !== undefined) return Object.keys(fields).length === 1;
  return (
    Object.keys(fields).every((keyword) => strictKeywords.has(keyword)) &&
    (!isObjectSchema(fields) || isClosedObject(fields))
  );
}
