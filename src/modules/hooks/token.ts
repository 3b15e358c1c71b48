import { createHash } from "node:crypto";
import { createRandomBase62 } from "../../lib/base62.ts";

const TOKEN_PREFIX = "hk_";
/** 256 bits. */
const RANDOM_CHARS = 43;
const SHOWN_END_CHARS = 4;

/** Creates a token: the secret part of a hook's address. */
export const createToken = (): string => TOKEN_PREFIX + createRandomBase62(RANDOM_CHARS);

/** The hash under which a token is stored. A token has enough entropy for a plain hash. */
export const hashToken = (token: string): Buffer => createHash("sha256").update(token).digest();

/** The end of a token, so that people recognize their hooks. */
export const showEnd = (token: string): string => token.slice(-SHOWN_END_CHARS);
