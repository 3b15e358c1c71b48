import { asFields, asList } from "../../../src/ai/fields.ts";
import { everySchema } from "../../../src/ai/format/walk-schema.ts";

type Body = Record<string, unknown>;

/** Returns the answer format that a request requires, in any provider's syntax, or an empty object if there is none. */
export function findRequiredFormat(body: Body) {
  const requestedFormat = body.response_format ?? asFields(body.text).format ?? asFields(body.output_config).format;
  const fields = asFields(requestedFormat);
  return { ...fields, ...asFields(fields.json_schema) };
}

/** Returns OpenAI's error message for a request's answer format, or null if OpenAI would accept the format. */
export function findOpenAiFormatError(body: Body): string | null {
  const { type, strict, schema, name } = findRequiredFormat(body);
  if (type === "json_object" && !/json/i.test(JSON.stringify([body.messages, body.input, body.instructions])))
    return "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.";
  if (type !== "json_schema") return null;
  if (typeof name !== "string" || !/^[\w-]{1,64}$/.test(name)) return "Missing required parameter: 'name'.";
  const isAccepted = (inner: unknown) => {
    const { properties, required, additionalProperties } = asFields(inner);
    const requiresAllFields = Object.keys(asFields(properties)).every((field) => asList(required).includes(field));
    return !isObjectSchema(inner) || (additionalProperties === false && requiresAllFields);
  };
  if (strict === true && !everySchema(schema, isAccepted))
    return `Invalid schema for response_format '${name}': 'additionalProperties' is required to be supplied and to be false.`;
  return null;
}

function isObjectSchema(schema: unknown): boolean {
  const { type } = asFields(schema);
  return type === "object" || asList(type).includes("object");
}

const keywordsUnsupportedByClaude = [
  "minimum",
  "maximum",
  "minLength",
  "maxLength",
  "maxItems",
  "oneOf",
  "patternProperties",
];

/** Returns Anthropic's error message for a request's answer format, or null if Anthropic would accept the format. */
export function findClaudeFormatError(body: Body): string | null {
  const { type, schema } = findRequiredFormat(body);
  if (type === undefined) return null;
  if (type !== "json_schema") return "output_config.format.type: Input should be 'json_schema'";
  const isAccepted = (inner: unknown) => {
    const fields = asFields(inner);
    if (keywordsUnsupportedByClaude.some((keyword) => keyword in fields)) return false;
    return !isObjectSchema(inner) || fields.additionalProperties === false;
  };
  return everySchema(schema, isAccepted) ? null : "output_config.format.schema: property is not supported";
}
