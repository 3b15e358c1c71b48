import { SESSION_ABSOLUTE_S } from "../limits.ts";

/** Longer issuer tokens are rejected without being parsed. Tokens with groups and roles are large, but must fit in a header. */
export const ISSUER_TOKEN_CHARS_MAX = 8_192;
/** Tokens with a longer lifetime are refused, so that none outlives the longest session. */
export const ISSUER_TOKEN_TTL_MAX_S = SESSION_ABSOLUTE_S;
/** Allowed clock skew between the issuer and Parley, in either direction. */
export const CLOCK_TOLERANCE_S = 30;
/** OpenID Connect Core 1.0, section 2: `sub` has at most 255 ASCII characters. */
export const SUBJECT_CHARS_MAX = 255;
/** Identities that one user may have. */
export const IDENTITIES_PER_USER_MAX = 20;

/** When the issuer's keys are fetched, in milliseconds. */
export type KeyTimes = {
  /** Older keys are fetched again; cached ones keep working meanwhile. */
  refreshMs: number;
  /** Minimum time between two fetches because of unknown keys. */
  cooldownMs: number;
  /** Delay after a failed fetch. */
  retryMs: number;
  /** Keys that couldn't be refreshed for this long are no longer used. */
  retentionMs: number;
  /** Timeout of one fetch: discovery and keys together. */
  timeoutMs: number;
};
export const keyTimes: KeyTimes = {
  refreshMs: 10 * 60_000,
  cooldownMs: 30_000,
  retryMs: 5_000,
  retentionMs: 24 * 60 * 60_000,
  timeoutMs: 5_000,
};
/** Maximum bytes read from an issuer's response; a typical response has a few thousand. */
export const ISSUER_RESPONSE_BYTES_MAX = 256 * 1024;
