import { Problem } from "../lib/problem.ts";

/** Characters of a key, without its quotes. */
export const IDEMPOTENCY_KEY_CHARS_MAX = 255;

const bare = /^[!#-~]+$/;
const quoted = /^"((?:[!#-[\]-~]|\\["\\])+)"$/;

/**
 * Reads `Idempotency-Key`: a string in quotes (RFC 9651, as draft-ietf-httpapi-idempotency-key-header asks for), or bare,
 * as most clients send it. Both name the same key. Visible ASCII only, so that nothing is left to interpretation.
 * @throws Problem `malformed`.
 */
export function readIdempotencyKey(header: string): string {
  const inQuotes = quoted.exec(header)?.[1]?.replaceAll(/\\(.)/g, "$1");
  const key = inQuotes ?? (bare.test(header) ? header : "");
  if (key.length < 1 || key.length > IDEMPOTENCY_KEY_CHARS_MAX)
    throw new Problem(
      "malformed",
      `Idempotency-Key is one text of 1 to ${IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters, in quotes or without.`,
    );
  return key;
}
