import { prepareSchema } from "../../lib/json-schema/prepare-schema.ts";
import { validate } from "../../lib/json-schema/validate.ts";
import type { AnswerFormat } from "../provider.ts";

/** Nesting of an answer; deeper JSON only serves to exhaust a stack, here or at a client. */
const OUTPUT_DEPTH_MAX = 100;

/** What an answer with a format came to. */
export type Output =
  | { type: "valid"; value: unknown }
  /** `problems`: sentences for the model, which says it better perhaps. */
  | { type: "invalid"; problems: string[] }
  /** It cannot be told within the limits. */
  | { type: "unknown" };

/** Prepares to check answers. @throws InvalidSchemaError */
export function createOutputReader(format: AnswerFormat): (text: string) => Output {
  const schema = prepareSchema(format.type === "json_schema" ? format.schema : { type: "object" });
  return (text) => {
    if (!isDeepAtMost(text, OUTPUT_DEPTH_MAX))
      return { type: "invalid", problems: [`The JSON is nested more than ${OUTPUT_DEPTH_MAX} levels deep.`] };
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      return { type: "invalid", problems: [`It is not valid JSON: ${(error as Error).message}`] };
    }
    const validation = validate(text, value, schema);
    return validation.type === "valid" ? { type: "valid", value } : validation;
  };
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Without a call for each level, which is what it is to prevent. */
function isDeepAtMost(text: string, depthMax: number): boolean {
  let depth = 0;
  let isInString = false;
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    if (isInString) {
      if (unit === BACKSLASH) at += 1;
      else if (unit === QUOTE) isInString = false;
    } else if (unit === QUOTE) isInString = true;
    else if (unit === 0x5b || unit === 0x7b) depth += 1;
    else if (unit === 0x5d || unit === 0x7d) depth -= 1;
    if (depth > depthMax) return false;
  }
  return true;
}
