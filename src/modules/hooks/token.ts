import { createHash } from "node:crypto";
import { createRandomBase62 } from "../../lib/base62.ts";

const TOKEN_PREFIX = "hk_";
/** The number of random characters in a token. They have 256 bits of entropy. */
const RANDOM_CHARS = 43;
const VISIBLE_SUFFIX_CHARS = 4;

/** Creates a token, which is the secret part of a hook's URL. */
export const createToken = (): string => TOKEN_PREFIX + createRandomBase62(RANDOM_CHARS);

/** Hashes a token for storage. A fast hash is secure, because a token has enough entropy. */
export const hashToken = (token: string): Buffer => createHash("sha256").update(token).digest();

/** Returns a token's last characters, by which people recognize their hooks. */
export const extractSuffix = (token: string): string => token.slice(-VISIBLE_SUFFIX_CHARS);
