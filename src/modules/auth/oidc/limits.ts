import { SESSION_ABSOLUTE_S } from "../limits.ts";

/** Longer tokens of an issuer are not looked at: some carry groups and roles, none needs more than a header can hold. */
export const ISSUER_TOKEN_CHARS_MAX = 8_192;
/** A token that is good for longer from now is refused: nothing outlives the longest session. */
export const ISSUER_TOKEN_TTL_MAX_S = SESSION_ABSOLUTE_S;
/** How far the clocks of the issuer and of Parley may be apart, in either direction. */
export const CLOCK_TOLERANCE_S = 30;
/** OpenID Connect Core 1.0, section 2: `sub` has at most 255 ASCII characters. */
export const SUBJECT_CHARS_MAX = 255;
/** Identities that one user may have. */
export const IDENTITIES_PER_USER_MAX = 20;

/** When the keys of the issuer are fetched, in milliseconds. */
export type KeyTimes = {
  /** Keys that are older are fetched again, while the known ones go on working. */
  refreshMs: number;
  /** Between two fetches for the sake of a key that is not known. */
  cooldownMs: number;
  /** Between a fetch that failed and the next one. */
  retryMs: number;
  /** Keys that could not be fetched again for so long no longer count. */
  keptMs: number;
  /** For one fetch: discovery and keys together. */
  timeoutMs: number;
};
export const keyTimes: KeyTimes = {
  refreshMs: 10 * 60_000,
  cooldownMs: 30_000,
  retryMs: 5_000,
  keptMs: 24 * 60 * 60_000,
  timeoutMs: 5_000,
};
/** Bytes that are read of an answer of the issuer; real ones have a few thousand. */
export const ISSUER_ANSWER_BYTES_MAX = 256 * 1024;
