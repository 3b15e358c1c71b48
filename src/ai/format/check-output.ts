import { prepareSchema } from "../../lib/json-schema/prepare-schema.ts";
import { validate } from "../../lib/json-schema/validate.ts";
import type { AnswerFormat } from "../provider.ts";

/** Maximum depth of an answer's JSON. Deeper JSON could overflow the stack, here or in a client. */
const OUTPUT_DEPTH_MAX = 100;

/** An answer checked against its format. */
export type Output =
  | { type: "valid"; value: unknown }
  /** `problems` are sentences that can be sent to the model, so that it corrects its answer. */
  | { type: "invalid"; problems: string[] }
  /** The check exceeded its limits. */
  | { type: "unknown" };

const anyObject = { type: "object" };

/** Returns a function that checks answers against a format. @throws InvalidSchemaError */
export function createOutputChecker(format: AnswerFormat): (text: string) => Promise<Output> {
  const schema = prepareSchema(format.type === "json_schema" ? format.schema : anyObject);
  return (text) => runCheck(() => checkText(text));

  function checkText(text: string): Output {
    if (!isWithinDepth(text, OUTPUT_DEPTH_MAX))
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

/** A check that takes longer than this is followed by a pause of PAUSE_FACTOR times its duration. */
const SHORT_CHECK_MS = 1;
const PAUSE_FACTOR = 3;

/** Resolves when the next check may start. */
let previousCheck: Promise<unknown> = Promise.resolve();

/** Runs checks one at a time, with pauses, so that expensive schemas use at most a quarter of the CPU time. */
function runCheck<T>(work: () => T): Promise<T> {
  const check = previousCheck.then(() => {
    const startedMs = performance.now();
    const result = work();
    return { result, durationMs: performance.now() - startedMs };
  });
  previousCheck = check.then(
    ({ durationMs }) => (durationMs > SHORT_CHECK_MS ? Bun.sleep(durationMs * PAUSE_FACTOR) : undefined),
    () => {},
  );
  return check.then(({ result }) => result);
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Whether JSON is nested at most `depthMax` levels deep. Not recursive, because deep JSON would overflow the stack. */
function isWithinDepth(text: string, depthMax: number): boolean {
  let depth = 0;
  let isInString = false;
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    if (isInString) {
      if (unit === BACKSLASH) index += 1;
      else if (unit === QUOTE) isInString = false;
    } else if (unit === QUOTE) isInString = true;
    else if (unit === 0x5b || unit === 0x7b) depth += 1;
    else if (unit === 0x5d || unit === 0x7d) depth -= 1;
    if (depth > depthMax) return false;
  }
  return true;
}
