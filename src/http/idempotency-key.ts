import { Problem } from "../lib/problem.ts";

/** Maximum length of a key without its quotes. */
export const IDEMPOTENCY_KEY_CHARS_MAX = 255;

const unquotedKeyPattern = /^[!#-~]+$/;
const quotedKeyPattern = /^"((?:[!#-[\]-~]|\\["\\])+)"$/;

/**
 * Parses `Idempotency-Key`. The draft (draft-ietf-httpapi-idempotency-key-header) requires a quoted string (RFC 9651), but most
 * clients send the key without quotes. Quotes aren't part of the key, which consists of visible ASCII characters.
 * @throws Problem `malformed`.
 */
export function parseIdempotencyKey(header: string): string {
  const quotedKey = quotedKeyPattern.exec(header)?.[1]?.replaceAll(/\\(.)/g, "$1");
  const key = quotedKey ?? (unquotedKeyPattern.test(header) ? header : "");
  if (key.length < 1 || key.length > IDEMPOTENCY_KEY_CHARS_MAX)
    throw new Problem(
      "malformed",
      `Idempotency-Key must be 1 to ${IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters, with or without quotes.`,
    );
  return key;
}
