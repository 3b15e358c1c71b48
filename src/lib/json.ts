import { createInvalidProblem, Problem } from "./problem.ts";
import { COMBINING_MARKS_MAX, hasMarkRun, isNormalized, isStorableText, normalizeText } from "./text.ts";

export type Json = null | boolean | number | string | Json[] | JsonObject;
export type JsonObject = { [key: string]: Json };

export const isJsonObject = (value: Json | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Maximum length of a field's name in an error message. */
const NAME_CHARS_MAX = 100;
/** Maximum nesting depth of JSON input. Deeper documents could overflow the stack. */
export const JSON_DEPTH_MAX = 32;

// Valid UTF-8 can contain forbidden characters only as escapes. Most documents contain none and are in NFC, so they need no
// recursive check.
const mayNeedCleaning = (text: string) => text.includes("\\u") || text.includes("\0") || text.includes("__proto__");

type Options = {
  /** Whether to skip NFC normalization, for text that must not be changed. */
  skipNormalization?: boolean;
};

/**
 * Parses untrusted JSON, and normalizes keys and values to NFC. Rejects values that can't be stored unchanged (NUL, lone
 * surrogates, numbers beyond ±(2^53-1)) and harmful ones (the key `__proto__`, long runs of combining marks). If a key is
 * repeated, its last value is used.
 * @throws Problem `malformed` (invalid JSON, or nested too deeply), or `invalid` with a pointer.
 */
export function parseJson(text: string, options: Options = {}): unknown {
  return cleanJson(parseUncheckedJson(text), text, options);
}

/** Parses JSON without checking its content. Call `cleanJson` afterwards. @throws Problem `malformed` if it is invalid. */
export function parseUncheckedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem("malformed", "The body is not valid JSON.");
  }
}

/** Checks a value parsed from `text` and normalizes it in place. @throws Problem `malformed` (nested too deeply) or `invalid`. */
export function cleanJson(value: unknown, text: string, options: Options = {}): unknown {
  if (!hasExactNumbers(value, 0)) throw createNumberTooLargeProblem(findTooLargeNumber(value, "#") ?? "#");
  if (!mayNeedCleaning(text) && (options.skipNormalization ? !hasMarkRun(text) : isNormalized(text))) return value;
  return cleanValue(value, "#", options.skipNormalization ? (text) => text : normalizeText);
}

const describeLocation = (pointer: string): string => formatPointer(pointer) || "The body";

const createNumberTooLargeProblem = (pointer: string): Problem =>
  createInvalidProblem(
    pointer,
    `${describeLocation(pointer)} must be a number between -${Number.MAX_SAFE_INTEGER} and ${Number.MAX_SAFE_INTEGER}: larger numbers lose digits. Send it as a string.`,
  );

/**
 * Whether all numbers are in the range where integers are exact (RFC 8259, section 6). Otherwise, 2^53+1 would become 2^53,
 * and 1e999 would be stored as null.
 * @throws Problem `malformed` if the value is nested too deeply.
 */
function hasExactNumbers(value: unknown, depth: number): boolean {
  if (typeof value === "number") return value <= Number.MAX_SAFE_INTEGER && value >= -Number.MAX_SAFE_INTEGER;
  if (typeof value !== "object" || value === null) return true;
  if (depth >= JSON_DEPTH_MAX)
    throw new Problem("malformed", `JSON may be nested at most ${JSON_DEPTH_MAX} levels deep.`);
  for (const child of Array.isArray(value) ? value : Object.values(value))
    if (!hasExactNumbers(child, depth + 1)) return false;
  return true;
}

function findTooLargeNumber(value: unknown, pointer: string): string | null {
  if (typeof value === "number") return Math.abs(value) > Number.MAX_SAFE_INTEGER ? pointer : null;
  if (typeof value !== "object" || value === null) return null;
  for (const [key, child] of Object.entries(value)) {
    const found = findTooLargeNumber(child, `${pointer}/${escapePointer(key)}`);
    if (found !== null) return found;
  }
  return null;
}

function cleanValue(value: unknown, pointer: string, normalize: (text: string) => string): unknown {
  if (typeof value === "string") return cleanString(value, pointer, normalize);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) {
    for (const [index, child] of value.entries()) value[index] = cleanValue(child, `${pointer}/${index}`, normalize);
    return value;
  }
  const record = value as Record<string, unknown>;
  for (const [key, child] of Object.entries(record)) {
    const name = cleanString(key, pointer, normalize);
    const childPointer = `${pointer}/${escapePointer(name)}`;
    if (name === "__proto__") throw createInvalidProblem(childPointer, "A field must not be named __proto__.");
    if (name !== key) delete record[key];
    record[name] = cleanValue(child, childPointer, normalize);
  }
  return record;
}

function cleanString(text: string, pointer: string, normalize: (text: string) => string): string {
  if (!isStorableText(text))
    throw createInvalidProblem(
      pointer,
      `${describeLocation(pointer)} must not contain NUL characters or lone surrogates.`,
    );
  if (hasMarkRun(text))
    throw createInvalidProblem(
      pointer,
      `${describeLocation(pointer)} may have at most ${COMBINING_MARKS_MAX} combining marks in a row.`,
    );
  return normalize(text);
}

/** Escapes `~` and `/` in a reference token of a JSON pointer (RFC 6901). */
export function escapePointer(token: string): string {
  return token.replaceAll("~", "~0").replaceAll("/", "~1");
}

/**
 * Formats a JSON pointer for people: `#/messages/0/content` becomes `messages[0].content`. Line breaks and similar characters
 * are escaped. Returns an empty string for the root.
 */
export function formatPointer(pointer: string): string {
  const tokens = pointer.replace(/^#/, "").split("/").slice(1);
  const name = tokens
    .map((token) => token.replaceAll("~1", "/").replaceAll("~0", "~"))
    .map((token, index) => (index === 0 ? token : /^\d+$/.test(token) ? `[${token}]` : `.${token}`))
    .join("");
  if (tokens.length === 0 || /^[\w.[\]-]+$/.test(name)) return name.slice(0, NAME_CHARS_MAX);
  const truncated = [...name].slice(0, NAME_CHARS_MAX).join("");
  return JSON.stringify(truncated).replace(/\p{C}/gu, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`);
}
