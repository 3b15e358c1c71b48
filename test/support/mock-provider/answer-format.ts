import { readFields, readList } from "../../../src/ai/fields.ts";
import { holdsForAll } from "../../../src/ai/format/walk-schema.ts";

type Body = Record<string, unknown>;

/** The format that a request requires, in any provider's syntax; none: an empty object. */
export function readFormat(body: Body) {
  const requestedFormat = body.response_format ?? readFields(body.text).format ?? readFields(body.output_config).format;
  const fields = readFields(requestedFormat);
  return { ...fields, ...readFields(fields.json_schema) };
}

/** Why OpenAI would refuse the format of a request. */
export function findOpenAiFormatMistake(body: Body): string | null {
  const { type, strict, schema, name } = readFormat(body);
  if (type === "json_object" && !/json/i.test(JSON.stringify([body.messages, body.input, body.instructions])))
    return "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.";
  if (type !== "json_schema") return null;
  if (typeof name !== "string" || !/^[\w-]{1,64}$/.test(name)) return "Missing required parameter: 'name'.";
  const isTaken = (inner: unknown) => {
    const { properties, required, additionalProperties } = readFields(inner);
    const isComplete = Object.keys(readFields(properties)).every((field) => readList(required).includes(field));
    return !isObject(inner) || (additionalProperties === false && isComplete);
  };
  if (strict === true && !holdsForAll(schema, isTaken))
    return `Invalid schema for response_format '${name}': 'additionalProperties' is required to be supplied and to be false.`;
  return null;
}

function isObject(schema: unknown): boolean {
  const { type } = readFields(schema);
  return type === "object" || readList(type).includes("object");
}

const refusedByClaude = ["minimum", "maximum", "minLength", "maxLength", "maxItems", "oneOf", "patternProperties"];

/** Why Anthropic would refuse it. */
export function findClaudeFormatMistake(body: Body): string | null {
  const { type, schema } = readFormat(body);
  if (type === undefined) return null;
  if (type !== "json_schema") return "output_config.format.type: Input should be 'json_schema'";
  const isTaken = (inner: unknown) => {
    const fields = readFields(inner);
    if (refusedByClaude.some((keyword) => keyword in fields)) return false;
    return !isObject(inner) || fields.additionalProperties === false;
  };
  return holdsForAll(schema, isTaken) ? null : "output_config.format.schema: property is not supported";
}
