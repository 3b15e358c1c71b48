/** Lifetime of an access token; ending its session revokes it immediately. */
export const ACCESS_TOKEN_TTL_S = 15 * 60;
/** A session expires if it isn't refreshed for this long. */
export const SESSION_IDLE_S = 30 * 24 * 60 * 60;
/** A session expires after this long, even in daily use. */
export const SESSION_ABSOLUTE_S = 90 * 24 * 60 * 60;
/** Grace period in which the previous refresh token still returns the same successor: responses get lost, and tabs refresh concurrently. */
export const REFRESH_GRACE_S = 10;
/** After a login more recent than this, accounts can be changed or deleted without the password. */
export const RECENT_LOGIN_S = 5 * 60;
/** Lifetime of a WebSocket ticket. */
export const TICKET_TTL_S = 30;
/** How long ended sessions are kept, so that other instances notice them. */
export const ENDED_SESSION_RETENTION_S = 24 * 60 * 60;

/** How long an instance may miss a revocation by another one; its own revocations take effect immediately. */
export const IDENTITY_CACHE_MS = 1_000;
/** Entries per cache; the least recently used entry is evicted. */
export const IDENTITIES_CACHED_MAX = 20_000;
/** Maximum stored length of a client's `User-Agent`. */
export const USER_AGENT_CHARS_MAX = 200;
/** With REGISTRATION_PRIVACY, registrations take a multiple of this time, which is longer than hashing and the transactions need. */
export const REGISTRATION_STEP_MS = 250;
/** Longer credentials are rejected without being parsed. */
export const TOKEN_CHARS_MAX = 1_024;
/** Ended sessions per lookup or cleanup batch. */
export const ENDED_SESSIONS_BATCH = 10_000;
