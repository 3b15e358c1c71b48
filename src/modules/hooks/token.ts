import { createHash } from "node:crypto";
import { createRandomBase62 } from "../../lib/base62.ts";

const TOKEN_PREFIX = "hk_";
/** 256 bits. */
const RANDOM_CHARS = 43;
const SHOWN_END_CHARS = 4;

/** A new token: what is secret of a hook's address. */
export const createToken = (): string => TOKEN_PREFIX + createRandomBase62(RANDOM_CHARS);

/** Under which a token is stored and looked up. A token is random enough that a plain hash hides it. */
export const hashToken = (token: string): Buffer => createHash("sha256").update(token).digest();

/** How a token ends, by which people tell their hooks apart. */
export const showEnd = (token: string): string => token.slice(-SHOWN_END_CHARS);
