import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { createRandomBase62, encodeBase62 } from "../../lib/base62.ts";

export const KEY_PREFIX = "pk_";
const RANDOM_CHARS = 30;
const CHECKSUM_CHARS = 6;
/** Matches the format of a key, which is documented for secret scanners (docs/api-keys.md). */
const keyPattern = /^pk_[0-9A-Za-z]{36}$/;
/** The number of characters at the start and end of a key that are stored in readable form. */
const VISIBLE_PREFIX_CHARS = KEY_PREFIX.length + 4;
const VISIBLE_SUFFIX_CHARS = 4;

/**
 * Returns the CRC-32 (IEEE) of a string as six base62 digits, as in GitHub's tokens. Because of the checksum, typos and guesses are
 * rejected without a query.
 */
export const createChecksum = (text: string): string => encodeBase62(crc32(text), CHECKSUM_CHARS);

/** Creates a key: `pk_`, 30 random characters (178 bits), and their checksum. */
export function createKey(): string {
  const random = createRandomBase62(RANDOM_CHARS);
  return KEY_PREFIX + random + createChecksum(random);
}

/** Returns whether a string has the format and checksum of a key. This is cheap, so it is checked before any query. */
export function isKey(text: string): boolean {
  if (!keyPattern.test(text)) return false;
  const random = text.slice(KEY_PREFIX.length, KEY_PREFIX.length + RANDOM_CHARS);
  return createChecksum(random) === text.slice(KEY_PREFIX.length + RANDOM_CHARS);
}

/** Hashes a key for storage, as hex. A fast hash is secure, because a key has enough entropy. */
export const hashKey = (key: string): string => createHash("sha256").update(key).digest("hex");

/** Returns the parts of a key by which people recognize it. The other 125 random bits stay secret. */
export const extractVisibleParts = (key: string) => ({
  prefix: key.slice(0, VISIBLE_PREFIX_CHARS),
  lastFour: key.slice(-VISIBLE_SUFFIX_CHARS),
});
