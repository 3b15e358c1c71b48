import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { createRandomBase62, encodeBase62 } from "../../lib/base62.ts";

export const KEY_PREFIX = "pk_";
const RANDOM_CHARS = 30;
const CHECKSUM_CHARS = 6;
/** What secret scanners look for (docs/api-keys.md). */
const keyPattern = /^pk_[0-9A-Za-z]{36}$/;
/** Characters of a key that are kept readable, at its two ends. */
const SHOWN_PREFIX_CHARS = KEY_PREFIX.length + 4;
const SHOWN_END_CHARS = 4;

/** The CRC-32 (IEEE) of a text as six base62 digits; the scheme of GitHub's tokens, which ends most typos and all guesses. */
export const createChecksum = (text: string): string => encodeBase62(crc32(text), CHECKSUM_CHARS);

/** A new key: `pk_`, 30 random characters (178 bits), and their checksum. */
export function createKey(): string {
  const random = createRandomBase62(RANDOM_CHARS);
  return KEY_PREFIX + random + createChecksum(random);
}

/** Whether a text has the form and the checksum of a key. Costs nothing, so it comes before any look-up. */
export function isKey(text: string): boolean {
  if (!keyPattern.test(text)) return false;
  const random = text.slice(KEY_PREFIX.length, KEY_PREFIX.length + RANDOM_CHARS);
  return createChecksum(random) === text.slice(KEY_PREFIX.length + RANDOM_CHARS);
}

/** Under which a key is stored, as hex. A key is random enough that a plain hash hides it. */
export const hashKey = (key: string): string => createHash("sha256").update(key).digest("hex");

/** The readable ends of a key, by which people tell their keys apart; 125 random bits stay unknown. */
export const showEnds = (key: string) => ({
  prefix: key.slice(0, SHOWN_PREFIX_CHARS),
  lastFour: key.slice(-SHOWN_END_CHARS),
});
