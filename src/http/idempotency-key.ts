import { Problem } from "../lib/problem.ts";

/** Characters of a key, without its quotes. */
export const IDEMPOTENCY_KEY_CHARS_MAX = 255;

const bare = /^[!#-~]+$/;
const quoted = /^"((?:[!#-[\]-~]|\\["\\])+)"$/;

/**
 * Reads `Idempotency-Key`: a quoted string (RFC 9651, as draft-ietf-httpapi-idempotency-key-header requires) or, as most
 * clients send it, without quotes. Both forms name the same key. Visible ASCII only, to avoid ambiguity.
 * @throws Problem `malformed`.
 */
export function readIdempotencyKey(header: string): string {
  const inQuotes = quoted.exec(header)?.[1]?.replaceAll(/\\(.)/g, "$1");
  const key = inQuotes ?? (bare.test(header) ? header : "");
  if (key.length < 1 || key.length > IDEMPOTENCY_KEY_CHARS_MAX)
    throw new Problem(
      "malformed",
      `Idempotency-Key must be 1 to ${IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters, with or without quotes.`,
    );
  return key;
}
