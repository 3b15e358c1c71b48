import { SESSION_LIFETIME_MAX_S } from "../limits.ts";

/** Maximum length of an issuer's token. Longer tokens are rejected without being parsed. Tokens must fit in a header. */
export const ISSUER_TOKEN_CHARS_MAX = 8_192;
/** The maximum lifetime of an issuer's token, so that no token is valid for longer than a session. */
export const ISSUER_TOKEN_TTL_MAX_S = SESSION_LIFETIME_MAX_S;
/** Allowed clock skew between the issuer and Parley, in either direction. */
export const CLOCK_TOLERANCE_S = 30;
/** Maximum length of the claim `sub`: 255 ASCII characters, according to OpenID Connect Core 1.0, section 2. */
export const SUBJECT_CHARS_MAX = 255;
/** The maximum number of identities per user. */
export const IDENTITIES_PER_USER_MAX = 20;

/** The times for fetching the issuer's keys. */
export type KeyTimes = {
  /** The age at which keys are fetched again. Cached keys keep working in the meantime. */
  refreshMs: number;
  /** The minimum interval between fetches that unknown keys trigger. */
  cooldownMs: number;
  /** The delay before a failed fetch is retried. */
  retryMs: number;
  /** The age at which keys that couldn't be refreshed are no longer used. */
  retentionMs: number;
  /** The timeout for fetching the discovery document and the keys. */
  timeoutMs: number;
};
export const keyTimes: KeyTimes = {
  refreshMs: 10 * 60_000,
  cooldownMs: 30_000,
  retryMs: 5_000,
  retentionMs: 24 * 60 * 60_000,
  timeoutMs: 5_000,
};
/** The maximum size of an issuer's response. A typical response has a few thousand bytes. */
export const ISSUER_RESPONSE_BYTES_MAX = 256 * 1024;
