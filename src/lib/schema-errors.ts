import { Kind, type TSchema } from "@sinclair/typebox";
import { type ValueError, ValueErrorType } from "@sinclair/typebox/errors";
import { escapePointer, formatPointer } from "./json.ts";
import type { InvalidField } from "./problem.ts";
import { formatRules } from "./schema.ts";

const ERRORS_SHOWN_MAX = 20;

/** A part of a request: its JSON body, its query or its path. */
export type InputSource = "body" | "query" | "params";

/**
 * Lists the invalid fields of an input. Each sentence mentions the field ("content is required."), but never its value. The
 * pointers of query and path parameters begin with `#/query` and `#/params`.
 * @param schemaErrors the errors of the schema check, at least one for each invalid field.
 */
export function listSchemaErrors(schemaErrors: Iterable<ValueError>, source: InputSource): InvalidField[] {
  const prefix = source === "body" ? "#" : `#/${escapePointer(source)}`;
  const sentencesByPointer = new Map<string, string>();
  for (const error of schemaErrors) {
    for (const { path, sentence } of describeError(error)) {
      const pointer = `${prefix}${path}`;
      // Only a field's first error is useful. For example, a missing field is also reported as having the wrong type.
      if (!sentencesByPointer.has(pointer)) sentencesByPointer.set(pointer, sentence);
    }
    if (sentencesByPointer.size >= ERRORS_SHOWN_MAX) break;
  }
  return [...sentencesByPointer].slice(0, ERRORS_SHOWN_MAX).map(([pointer, detail]) => ({ pointer, detail }));
}

type FieldError = { path: string; sentence: string };

function describeError(error: ValueError): FieldError[] {
  const branch = error.type === ValueErrorType.Union ? findIntendedBranch(error) : null;
  if (branch) return branch.flatMap(describeError).map((fieldError) => allowNull(fieldError, error));
  const { path } = error;
  if (path !== "") return [{ path, sentence: `${formatPointer(path)} ${findViolatedRule(error)}.` }];
  const isMissing = error.value === null || error.value === undefined;
  return [{ path, sentence: isMissing ? "Send a JSON body." : `The body ${findViolatedRule(error)}.` }];
}

/** Adds "or null" to a sentence about the type if null is allowed. */
function allowNull(fieldError: FieldError, { schema, path }: ValueError): FieldError {
  const isNullable = schema.anyOf.some((branch: TSchema) => branch.type === "null");
  if (!isNullable || fieldError.path !== path) return fieldError;
  const [, rule] = /^\S+ (must be .+)\.$/.exec(fieldError.sentence) ?? [];
  const isTypeRule = rule !== undefined && Object.values(typeRules).includes(rule);
  return isTypeRule ? { path, sentence: `${fieldError.sentence.slice(0, -1)} or null.` } : fieldError;
}

/**
 * Returns the errors of the union branch that a value was probably meant to match: the only branch except null, the only branch
 * with the value's type, or the branch that matched deepest. Returns null if the intended branch is unclear.
 */
function findIntendedBranch({ schema, errors, path, value }: ValueError): ValueError[] | null {
  const branches = (schema.anyOf as TSchema[]).map((branch, index) => ({
    branch,
    errors: takeFirstErrors(errors[index] ?? []),
  }));
  const candidates = branches.filter(({ branch }) => branch.type !== "null");
  if (candidates.every(({ branch }) => branch.const !== undefined)) return null;
  if (candidates.length === 1) return candidates[0]?.errors ?? null;
  const sameTypeCandidates = candidates.filter(({ branch }) => branch.type === getJsonType(value));
  if (sameTypeCandidates.length === 1) return sameTypeCandidates[0]?.errors ?? null;
  const deeperCandidates = candidates.filter(
    ({ errors }) => errors.length > 0 && errors.every((error) => error.path !== path),
  );
  deeperCandidates.sort((a, b) => a.errors.length - b.errors.length);
  return deeperCandidates[0]?.errors ?? null;
}

const getJsonType = (value: unknown): string => (Array.isArray(value) ? "array" : typeof value);

/** Returns only as many errors as are shown, because a value can have an error for each entry. */
function takeFirstErrors(errors: Iterable<ValueError>): ValueError[] {
  const firstErrors: ValueError[] = [];
  for (const error of errors) if (firstErrors.push(error) >= ERRORS_SHOWN_MAX) break;
  return firstErrors;
}

/** Returns the violated rule as the end of a sentence that begins with the field's name. */
function findViolatedRule({ type, schema, value }: ValueError): string {
  switch (type) {
    case ValueErrorType.ObjectRequiredProperty:
      return "is required";
    case ValueErrorType.ObjectAdditionalProperties:
      return "is not a known field";
    case ValueErrorType.StringMinLength:
      return schema.minLength === 1 ? "must not be empty" : `must have at least ${schema.minLength} characters`;
    case ValueErrorType.StringMaxLength:
      return `may have at most ${schema.maxLength} characters`;
    case ValueErrorType.StringFormat:
      return formatRules[String(schema.format)] ?? "has an invalid format";
    case ValueErrorType.StringPattern:
      return describePattern(String(schema.pattern));
    case ValueErrorType.ArrayMinItems:
      return schema.minItems === 1 ? "must not be empty" : `must have at least ${schema.minItems} entries`;
    case ValueErrorType.ArrayMaxItems:
      return `may have at most ${schema.maxItems} entries`;
    case ValueErrorType.ArrayUniqueItems:
      return "must not have the same entry twice";
    case ValueErrorType.NumberMinimum:
    case ValueErrorType.IntegerMinimum:
      return `must be ${schema.minimum} or more`;
    case ValueErrorType.NumberMaximum:
    case ValueErrorType.IntegerMaximum:
      return `must be ${schema.maximum} or less`;
    case ValueErrorType.NumberExclusiveMinimum:
      return `must be more than ${schema.exclusiveMinimum}`;
    default:
      return value === undefined ? "is required" : findTypeRule(schema);
  }
}

/** Matches the pattern for names of tools and formats. */
const namePattern = /^\^\[a-zA-Z0-9_-\]\{1,(\d+)\}\$$/;

function describePattern(pattern: string): string {
  const [, charsMax] = namePattern.exec(pattern) ?? [];
  if (charsMax === undefined) return "has an invalid format";
  return `must have 1 to ${charsMax} letters (a-z, A-Z), digits, _ and -`;
}

function findTypeRule(schema: TSchema): string {
  if (Array.isArray(schema.enum)) return `must be one of ${schema.enum.join(", ")}`;
  if (schema[Kind] === "QueryInteger") return `must be a whole number, ${describeRange(schema)}`;
  if (schema.const !== undefined) return `must be ${schema.const}`;
  if (Array.isArray(schema.anyOf) && schema.anyOf.every((branch) => branch.const !== undefined))
    return `must be one of ${schema.anyOf.map((branch) => branch.const).join(", ")}`;
  const types = (schema.anyOf as TSchema[] | undefined)?.map((branch) => typeRules[String(branch.type)]);
  if (types?.every((rule) => rule !== undefined))
    return [...new Set(types)].join(" or ").replaceAll("or must be", "or");
  return typeRules[String(schema.type)] ?? "has an invalid form";
}

const typeRules: Readonly<Record<string, string>> = {
  string: "must be text",
  integer: "must be a whole number",
  number: "must be a number",
  boolean: "must be true or false",
  array: "must be a list",
  object: "must be a JSON object",
  null: "must be null",
};

function describeRange({ minimum, maximum }: TSchema): string {
  return maximum === Number.MAX_SAFE_INTEGER ? `${minimum} or more` : `${minimum} to ${maximum}`;
}
