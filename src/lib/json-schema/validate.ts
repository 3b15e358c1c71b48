import { format as formats, hooks, type OutputUnit, validate as runValidation } from "@cfworker/json-schema";
import { formatCanonicalJson } from "../canonical-json.ts";
import { applicators } from "./keywords.ts";
import type { LinearPattern } from "./linear-pattern.ts";
import type { PreparedSchema } from "./prepare-schema.ts";

/**
 * Limits on the steps of a validation, which depend on the length of the text. Applying a schema to a value is one step, or more
 * if either is large. A step takes about half a microsecond. Only schemas designed to be slow reach the limit.
 */
const STEPS_MIN = 10_000;
export const STEPS_MAX = 500_000;
const STEPS_PER_CHAR = 5;
/** Matching a pattern costs its number of instructions times the text's length, divided by this number, in steps. */
const MATCHES_PER_STEP = 5;
const CHARS_PER_STEP = 50;
/** Maximum length of a string whose format is checked. */
const FORMAT_CHARS_MAX = 2_000;
const PROBLEMS_MAX = 5;
const PROBLEM_CHARS_MAX = 300;

export type Validation =
  | { type: "valid" }
  /** `problems` are sentences with the location of each error, for the author of the value. */
  | { type: "invalid"; problems: string[] }
  /** The validation would take too long. */
  | { type: "unknown" };

class StepLimitError extends Error {}

/** The schema and the remaining steps of the current validation. Validations are synchronous, so they never overlap. */
let currentSchema: PreparedSchema | null = null;
let remainingSteps = 0;

function spendSteps(steps: number): void {
  remainingSteps -= steps;
  if (remainingSteps < 0) throw new StepLimitError("the validation takes too long");
}

function getValueCost(value: unknown): number {
  if (typeof value === "string") return value.length / CHARS_PER_STEP;
  if (Array.isArray(value)) return value.length / 10;
  return typeof value === "object" && value !== null ? Object.keys(value).length : 0;
}

const matchPattern = (pattern: LinearPattern, text: string): boolean => {
  spendSteps((text.length * pattern.size) / MATCHES_PER_STEP);
  return pattern.test(text);
};

hooks.visit = (value, schema) => spendSteps((currentSchema?.costs.get(schema) ?? 1) + getValueCost(value));
hooks.createRegExp = (source) => {
  const pattern = currentSchema?.patterns.get(source);
  // Any string satisfies a pattern that isn't matched.
  return { test: (text) => !pattern || matchPattern(pattern, text) };
};
hooks.hasDuplicates = (items) => {
  const canonicalItems = items.map((item) => formatCanonicalJson(item));
  spendSteps(canonicalItems.reduce((sum, text) => sum + text.length / CHARS_PER_STEP, 0));
  return new Set(canonicalItems).size < canonicalItems.length;
};
for (const [name, check] of Object.entries(formats))
  formats[name] = (text) => text.length > FORMAT_CHARS_MAX || check(text);

/** Validates a value that was parsed from `text`. */
export function validate(text: string, value: unknown, prepared: PreparedSchema): Validation {
  currentSchema = prepared;
  remainingSteps = Math.min(STEPS_MAX, STEPS_MIN + text.length * STEPS_PER_CHAR);
  try {
    const { valid, errors } = runValidation(value, prepared.schema, prepared.draft);
    return valid ? { type: "valid" } : { type: "invalid", problems: describeErrors(errors) };
  } catch (error) {
    // A stack overflow also means that the validation is too expensive.
    if (error instanceof StepLimitError || error instanceof RangeError) return { type: "unknown" };
    throw error;
  } finally {
    currentSchema = null;
  }
}

/** Describes the original errors, without the errors that result from them. */
function describeErrors(errors: readonly OutputUnit[]): string[] {
  const ownErrors = errors.filter(({ keyword }) => keyword !== "$ref" && !Object.hasOwn(applicators, keyword));
  const problems = (ownErrors.length > 0 ? ownErrors : errors).map(({ instanceLocation, error }) =>
    `${instanceLocation}: ${error}`.slice(0, PROBLEM_CHARS_MAX),
  );
  return [...new Set(problems)].slice(0, PROBLEMS_MAX);
}
