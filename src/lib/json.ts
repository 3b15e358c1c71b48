import { Problem } from "./problem.ts";

/** Nesting of JSON input; deeper documents only serve to exhaust the stack. */
export const JSON_DEPTH_MAX = 32;

// Only an escape can bring in what valid UTF-8 cannot carry or Postgres cannot store, so most texts are not looked at one by one.
const suspiciousEscape = /\\u(?:0000|[dD][89a-fA-F])/;

/**
 * Parses JSON from outside. Refuses what cannot be stored as text: NUL and lone surrogates, in keys and values.
 * @throws Problem `malformed` (no JSON, too deep), `invalid` (NUL or lone surrogate, with its pointer).
 */
export function parseJson(text: string): unknown {
  const value = readJson(text);
  checkJson(value, text);
  return value;
}

/** The first half of `parseJson`. @throws Problem `malformed` when it is no JSON. */
export function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem("malformed", "This is not valid JSON.");
  }
}

/** The second half: what was read from `text` is checked. @throws Problem `malformed` (too deep), `invalid`. */
export function checkJson(value: unknown, text: string): void {
  checkDepth(value, 0);
  if (suspiciousEscape.test(text) || text.includes("\0")) checkStrings(value, "#");
}

function checkDepth(value: unknown, depth: number): void {
  if (typeof value !== "object" || value === null) return;
  if (depth >= JSON_DEPTH_MAX) throw new Problem("malformed", `JSON may be nested ${JSON_DEPTH_MAX} levels deep.`);
  for (const child of Object.values(value)) checkDepth(child, depth + 1);
}

function checkStrings(value: unknown, pointer: string): void {
  if (typeof value === "string") checkText(value, pointer);
  if (typeof value !== "object" || value === null) return;
  for (const [key, child] of Object.entries(value)) {
    checkText(key, pointer);
    checkStrings(child, `${pointer}/${escapePointer(key)}`);
  }
}

function checkText(text: string, pointer: string): void {
  if (isStorableText(text)) return;
  const detail = "Text may hold no NUL character and no lone surrogate.";
  throw new Problem("invalid", detail, { errors: [{ pointer, detail }] });
}

/** Whether Postgres can store the text and UTF-8 can carry it: no NUL, no lone surrogate. */
export function isStorableText(text: string): boolean {
  return text.isWellFormed() && !text.includes("\0");
}

/** RFC 6901: `~` and `/` inside a reference token. */
export function escapePointer(token: string): string {
  return token.replaceAll("~", "~0").replaceAll("/", "~1");
}
