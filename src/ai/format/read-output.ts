import { prepareSchema } from "../../lib/json-schema/prepare-schema.ts";
import { validate } from "../../lib/json-schema/validate.ts";
import type { AnswerFormat } from "../provider.ts";

/** Maximum nesting of an answer; deeper JSON would only exhaust a stack, here or in a client. */
const OUTPUT_DEPTH_MAX = 100;

/** The result of checking an answer against its format. */
export type Output =
  | { type: "valid"; value: unknown }
  /** `problems`: sentences for the model, which may then correct them. */
  | { type: "invalid"; problems: string[] }
  /** The check exceeded its limits. */
  | { type: "unknown" };

const anyObject = { type: "object" };

/** Creates a checker for answers. @throws InvalidSchemaError */
export function createOutputReader(format: AnswerFormat): (text: string) => Promise<Output> {
  const schema = prepareSchema(format.type === "json_schema" ? format.schema : anyObject);
  return (text) => runCheck(() => read(text));

  function read(text: string): Output {
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
  }
}

/** A longer check is followed by a pause of a multiple of its duration. */
const SHORT_MS = 1;
const PAUSE_SHARE = 3;

/** Resolves when the next check may start. */
let previousCheck: Promise<unknown> = Promise.resolve();

/** Runs checks one at a time, so that expensive schemas leave most of the CPU to everything else. */
function runCheck<T>(work: () => T): Promise<T> {
  const check = previousCheck.then(() => {
    const startedMs = performance.now();
    const result = work();
    return { result, tookMs: performance.now() - startedMs };
  });
  previousCheck = check.then(
    ({ tookMs }) => (tookMs > SHORT_MS ? Bun.sleep(tookMs * PAUSE_SHARE) : undefined),
    () => {},
  );
  return check.then(({ result }) => result);
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Not recursive, since it guards against deep recursion. */
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
