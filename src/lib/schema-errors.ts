import { Kind, type TSchema } from "@sinclair/typebox";
import { type ValueError, ValueErrorType } from "@sinclair/typebox/errors";
import { escapePointer, mapPointerToName } from "./json.ts";
import type { InvalidField } from "./problem.ts";
import { formatRules } from "./schema.ts";

const ERRORS_SHOWN_MAX = 20;

/** The part of a request: its JSON body, its query or its path. */
export type InputSource = "body" | "query" | "params";

/**
 * Lists the invalid fields of an input with sentences that name the field ("content is required.") but never its value.
 * Pointers into a body are JSON pointers as URI fragments; pointers into query and path begin with that word.
 * @param found the errors of the schema check; at least one for each invalid field.
 */
export function listSchemaErrors(found: Iterable<ValueError>, place: InputSource): InvalidField[] {
  const prefix = place === "body" ? "#" : `#/${escapePointer(place)}`;
  const byPointer = new Map<string, string>();
  for (const error of found) {
    for (const { path, sentence } of describeError(error)) {
      const pointer = `${prefix}${path}`;
      // Only the first error of a field is useful: a missing field is reported again as having the wrong type.
      if (!byPointer.has(pointer)) byPointer.set(pointer, sentence);
    }
    if (byPointer.size >= ERRORS_SHOWN_MAX) break;
  }
  return [...byPointer].slice(0, ERRORS_SHOWN_MAX).map(([pointer, detail]) => ({ pointer, detail }));
}

type Described = { path: string; sentence: string };

function describeError(error: ValueError): Described[] {
  const branch = error.type === ValueErrorType.Union ? findMeantBranch(error) : null;
  if (branch) return branch.flatMap(describeError).map((described) => allowNull(described, error));
  const { path } = error;
  if (path !== "") return [{ path, sentence: `${mapPointerToName(path)} ${findRule(error)}.` }];
  const isMissing = error.value === null || error.value === undefined;
  return [{ path, sentence: isMissing ? "Send a JSON body." : `The body ${findRule(error)}.` }];
}

/** If null is allowed too, adds that to a sentence about the type. */
function allowNull(described: Described, { schema, path }: ValueError): Described {
  const isNullable = schema.anyOf.some((branch: TSchema) => branch.type === "null");
  if (!isNullable || described.path !== path) return described;
  const [, rule] = /^\S+ (must be .+)\.$/.exec(described.sentence) ?? [];
  const isOfType = rule !== undefined && Object.values(typeRules).includes(rule);
  return isOfType ? { path, sentence: `${described.sentence.slice(0, -1)} or null.` } : described;
}

/**
 * For a value that matches no branch of a union: the errors of the branch that was probably meant: the only one besides null,
 * the only one of the value's type, or the one that matched deepest. Null if there is no best one.
 */
function findMeantBranch({ schema, errors, path, value }: ValueError): ValueError[] | null {
  const branches = (schema.anyOf as TSchema[]).map((branch, at) => ({ branch, errors: takeFirst(errors[at] ?? []) }));
  const meant = branches.filter(({ branch }) => branch.type !== "null");
  if (meant.every(({ branch }) => branch.const !== undefined)) return null;
  if (meant.length === 1) return meant[0]?.errors ?? null;
  const ofType = meant.filter(({ branch }) => branch.type === typeOf(value));
  if (ofType.length === 1) return ofType[0]?.errors ?? null;
  const deeper = meant.filter(({ errors }) => errors.length > 0 && errors.every((error) => error.path !== path));
  deeper.sort((one, other) => one.errors.length - other.errors.length);
  return deeper[0]?.errors ?? null;
}

const typeOf = (value: unknown): string => (Array.isArray(value) ? "array" : typeof value);

/** A value may have as many errors as entries, and each costs time, so only as many are listed as are shown. */
function takeFirst(errors: Iterable<ValueError>): ValueError[] {
  const taken: ValueError[] = [];
  for (const error of errors) if (taken.push(error) >= ERRORS_SHOWN_MAX) break;
  return taken;
}

/** The violated rule, as the rest of a sentence that begins with the field's name. */
function findRule({ type, schema, value }: ValueError): string {
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

/** The form of names of tools and formats. */
const namePattern = /^\^\[a-zA-Z0-9_-\]\{1,(\d+)\}\$$/;

function describePattern(pattern: string): string {
  const [, charsMax] = namePattern.exec(pattern) ?? [];
  if (charsMax === undefined) return "does not have the right form";
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
