import { format as formats, hooks, type OutputUnit, validate as run } from "@cfworker/json-schema";
import { formatCanonicalJson } from "../canonical-json.ts";
import { applicators } from "./keywords.ts";
import type { LinearPattern } from "./linear-pattern.ts";
import type { PreparedSchema } from "./prepare-schema.ts";

/**
 * Steps of one validation: applying a schema to a value is one, or more if either is large; each takes about half a
 * microsecond. Longer texts may take more steps; only a schema designed to be slow needs them.
 */
const STEPS_MIN = 10_000;
export const STEPS_MAX = 500_000;
const STEPS_PER_CHAR = 5;
/** Instructions of a pattern, times characters, that cost one step. */
const MATCHES_PER_STEP = 5;
const CHARS_PER_STEP = 50;
/** Longer texts are not checked for a format. */
const FORMAT_CHARS_MAX = 2_000;
const PROBLEMS_MAX = 5;
const PROBLEM_CHARS_MAX = 300;

export type Validation =
  /** `problems`: sentences with locations, for the author of the value. */
  | { type: "valid" }
  | { type: "invalid"; problems: string[] }
  /** It would take too long. */
  | { type: "unknown" };

class WorkError extends Error {}

/** Remaining steps of the current validation. Validations are synchronous, so they never overlap. */
let current: PreparedSchema | null = null;
let stepsLeft = 0;

function spend(steps: number): void {
  stepsLeft -= steps;
  if (stepsLeft < 0) throw new WorkError("the validation takes too long");
}

function measure(value: unknown): number {
  if (typeof value === "string") return value.length / CHARS_PER_STEP;
  if (Array.isArray(value)) return value.length / 10;
  return typeof value === "object" && value !== null ? Object.keys(value).length : 0;
}

const match = (pattern: LinearPattern, text: string): boolean => {
  spend((text.length * pattern.size) / MATCHES_PER_STEP);
  return pattern.test(text);
};

hooks.visit = (value, schema) => spend((current?.costs.get(schema) ?? 1) + measure(value));
hooks.createRegExp = (source) => {
  const pattern = current?.patterns.get(source);
  // A pattern that isn't matched counts as satisfied.
  return { test: (text) => !pattern || match(pattern, text) };
};
hooks.hasDuplicates = (items) => {
  const texts = items.map((item) => formatCanonicalJson(item));
  spend(texts.reduce((sum, text) => sum + text.length / CHARS_PER_STEP, 0));
  return new Set(texts).size < texts.length;
};
for (const [name, check] of Object.entries(formats))
  formats[name] = (text) => text.length > FORMAT_CHARS_MAX || check(text);

/** Validates a value parsed from `text`. */
export function validate(text: string, value: unknown, prepared: PreparedSchema): Validation {
  current = prepared;
  stepsLeft = Math.min(STEPS_MAX, STEPS_MIN + text.length * STEPS_PER_CHAR);
  try {
    const { valid, errors } = run(value, prepared.schema, prepared.draft);
    return valid ? { type: "valid" } : { type: "invalid", problems: describe(errors) };
  } catch (error) {
    // A stack overflow counts as too long, too.
    if (error instanceof WorkError || error instanceof RangeError) return { type: "unknown" };
    throw error;
  } finally {
    current = null;
  }
}

/** Only the errors of the innermost locations, without those that follow from them. */
function describe(errors: readonly OutputUnit[]): string[] {
  const own = errors.filter(({ keyword }) => keyword !== "$ref" && !Object.hasOwn(applicators, keyword));
  const texts = (own.length > 0 ? own : errors).map(({ instanceLocation, error }) =>
    `${instanceLocation}: ${error}`.slice(0, PROBLEM_CHARS_MAX),
  );
  return [...new Set(texts)].slice(0, PROBLEMS_MAX);
}
