import { createHash } from "node:crypto";
import { createRandomBase62 } from "../../lib/base62.ts";

const TOKEN_PREFIX = "hk_";
/** Random characters of a token: 256 bits. */
const RANDOM_CHARS = 43;
const VISIBLE_SUFFIX_CHARS = 4;

/** Creates a token, which is the secret part of a hook's URL. */
export const createToken = (): string => TOKEN_PREFIX + createRandomBase62(RANDOM_CHARS);

/** The hash under which a token is stored. A token has enough entropy for a plain hash. */
export const hashToken = (token: string): Buffer => createHash("sha256").update(token).digest();

/** The last characters of a token, by which people recognize their hooks. */
export const extractSuffix = (token: string): string => token.slice(-VISIBLE_SUFFIX_CHARS);
