import { Problem } from "./problem.ts";

/** Nesting of JSON input; deeper documents only serve to exhaust the stack. */
export const JSON_DEPTH_MAX = 32;

// Only an escape can bring in what valid UTF-8 cannot carry or Postgres cannot store, so most inputs skip the walk.
const suspiciousEscape = /\\u(?:0000|[dD][89a-fA-F])/;

/**
 * Parses JSON from outside. Refuses what cannot be stored as text: NUL and lone surrogates, in keys and values.
 * @throws Problem `malformed` (no JSON, too deep), `invalid` (NUL or lone surrogate, with its pointer).
 */
export function parseJson(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Problem("malformed", "The body is not valid JSON.");
  }
  checkTree(value, "#", 0, suspiciousEscape.test(text) || text.includes("\0"));
  return value;
}

function checkTree(value: unknown, pointer: string, depth: number, strings: boolean): void {
  if (typeof value === "string") {
    if (strings) checkText(value, pointer);
    return;
  }
  if (typeof value !== "object" || value === null) return;
  if (depth >= JSON_DEPTH_MAX) throw new Problem("malformed", `JSON may be nested ${JSON_DEPTH_MAX} levels deep.`);
  for (const [key, child] of Object.entries(value)) {
    if (strings) checkText(key, pointer);
    checkTree(child, `${pointer}/${escapePointer(key)}`, depth + 1, strings);
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
