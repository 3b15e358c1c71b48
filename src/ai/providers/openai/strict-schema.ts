import { readFields } from "../../fields.ts";
import { holdsForAll, isClosedObject, isObjectSchema } from "../../format/walk-schema.ts";

/** What OpenAI takes in strict mode; anything else is an error there. */
const strictKeywords = new Set(
  (
    "$schema $defs definitions $ref title description type enum const anyOf properties required additionalProperties " +
    "items pattern format multipleOf minimum maximum exclusiveMinimum exclusiveMaximum minItems maxItems"
  ).split(" "),
);

/**
 * Whether OpenAI can force an answer into a schema: all fields of each object are named and required, others are not allowed,
 * and no keyword is beyond its subset. Outside strict mode it is told of the schema and tries.
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
