import { format as formats, hooks, type OutputUnit, validate as run } from "@cfworker/json-schema";
import { formatCanonicalJson } from "../canonical-json.ts";
import { applicators } from "./keywords.ts";
import type { LinearPattern } from "./linear-pattern.ts";
import type { PreparedSchema } from "./prepare-schema.ts";

/**
 * Steps of one validation: a value by a schema is one, or more if either is large; each takes about half a microsecond. A long
 * text may take more of them than a short one, which only a schema that is made to take long needs.
 */
const STEPS_MIN = 50_000;
export const STEPS_MAX = 500_000;
const STEPS_PER_CHAR = 2;
/** Instructions of a pattern, times characters, that cost as much as one step. */
const MATCHES_PER_STEP = 5;
const CHARS_PER_STEP = 50;
/** Longer texts are not checked for a format. */
const FORMAT_CHARS_MAX = 2_000;
const PROBLEMS_MAX = 5;
const PROBLEM_CHARS_MAX = 300;

export type Validation =
  /** `problems`: sentences with places, for whoever wrote the value. */
  | { type: "valid" }
  | { type: "invalid"; problems: string[] }
  /** It would take too long to say. */
  | { type: "unknown" };

class WorkError extends Error {}

/** What the validation at work may still do. Validations run one after the other, each in one go. */
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
  // What is not matched counts as met.
  return { test: (text) => !pattern || match(pattern, text) };
};
hooks.hasDuplicates = (items) => {
  const texts = items.map((item) => formatCanonicalJson(item));
  spend(texts.reduce((sum, text) => sum + text.length / CHARS_PER_STEP, 0));
  return new Set(texts).size < texts.length;
};
for (const [name, check] of Object.entries(formats))
  formats[name] = (text) => text.length > FORMAT_CHARS_MAX || check(text);

/** Checks the value that `JSON.parse` gave of a text. */
export function validate(text: string, value: unknown, prepared: PreparedSchema): Validation {
  current = prepared;
  stepsLeft = Math.min(STEPS_MAX, STEPS_MIN + text.length * STEPS_PER_CHAR);
  try {
    const { valid, errors } = run(value, prepared.schema, prepared.draft);
    return valid ? { type: "valid" } : { type: "invalid", problems: describe(errors) };
  } catch (error) {
    // Too deep for the stack is too long as well.
    if (error instanceof WorkError || error instanceof RangeError) return { type: "unknown" };
    throw error;
  } finally {
    current = null;
  }
}

/** What is wrong at the places themselves, without what follows from it for the places above. */
function describe(errors: readonly OutputUnit[]): string[] {
  const own = errors.filter(({ keyword }) => keyword !== "$ref" && !Object.hasOwn(applicators, keyword));
  const texts = (own.length > 0 ? own : errors).map(({ instanceLocation, error }) =>
    `${instanceLocation}: ${error}`.slice(0, PROBLEM_CHARS_MAX),
  );
  return [...new Set(texts)].slice(0, PROBLEMS_MAX);
}
