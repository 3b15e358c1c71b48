import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { createRandomBase62, encodeBase62 } from "../../lib/base62.ts";

export const KEY_PREFIX = "pk_";
const RANDOM_CHARS = 30;
const CHECKSUM_CHARS = 6;
/** The pattern for secret scanners (docs/api-keys.md). */
const keyPattern = /^pk_[0-9A-Za-z]{36}$/;
/** Characters kept readable at the start and end of a key. */
const VISIBLE_PREFIX_CHARS = KEY_PREFIX.length + 4;
const VISIBLE_SUFFIX_CHARS = 4;

/** The CRC-32 (IEEE) of a string as six base62 digits, as in GitHub's tokens: rejects typos and guesses without a query. */
export const createChecksum = (text: string): string => encodeBase62(crc32(text), CHECKSUM_CHARS);

/** A new key: `pk_`, 30 random characters (178 bits), and their checksum. */
export function createKey(): string {
  const random = createRandomBase62(RANDOM_CHARS);
  return KEY_PREFIX + random + createChecksum(random);
}

/** Whether a string has the format and checksum of a key. Cheap, so it runs before any query. */
export function isKey(text: string): boolean {
  if (!keyPattern.test(text)) return false;
  const random = text.slice(KEY_PREFIX.length, KEY_PREFIX.length + RANDOM_CHARS);
  return createChecksum(random) === text.slice(KEY_PREFIX.length + RANDOM_CHARS);
}

/** The hash under which a key is stored, as hex. A key has enough entropy for a plain hash. */
export const hashKey = (key: string): string => createHash("sha256").update(key).digest("hex");

/** The parts of a key that stay readable, so that people recognize it; 125 random bits stay secret. */
export const extractEnds = (key: string) => ({
  prefix: key.slice(0, VISIBLE_PREFIX_CHARS),
  lastFour: key.slice(-VISIBLE_SUFFIX_CHARS),
});
