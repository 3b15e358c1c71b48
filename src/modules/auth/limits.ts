/** Lifetime of an access token; ending its session revokes it immediately. */
export const ACCESS_TOKEN_TTL_S = 15 * 60;
/** A session expires if it isn't refreshed for this long. */
export const SESSION_IDLE_S = 30 * 24 * 60 * 60;
/** A session expires after this long, even in daily use. */
export const SESSION_ABSOLUTE_S = 90 * 24 * 60 * 60;
/** Grace period in which the previous refresh token still returns the same successor: responses get lost, tabs race. */
export const REFRESH_GRACE_S = 10;
/** A login younger than this replaces the password when an account is changed or deleted. */
export const RECENT_LOGIN_S = 5 * 60;
/** Lifetime of a WebSocket ticket. */
export const TICKET_TTL_S = 30;
/** How long ended sessions are kept, so that other instances notice them. */
export const ENDED_SESSION_RETENTION_S = 24 * 60 * 60;

/** How long requests may miss a revocation by another instance; this instance's own take effect immediately. */
export const IDENTITY_CACHE_MS = 1_000;
/** Entries per cache; the least recently used entry is evicted. */
export const IDENTITIES_CACHED_MAX = 20_000;
/** Stored length of a client's name. */
export const USER_AGENT_CHARS_MAX = 200;
/** With REGISTRATION_PRIVACY, registration responses wait for a multiple of this: longer than hashing and its transactions take. */
export const REGISTRATION_STEP_MS = 250;
/** Longer credentials are rejected unread. */
export const TOKEN_CHARS_MAX = 1_024;
/** Ended sessions per lookup or cleanup batch. */
export const ENDED_SESSIONS_BATCH = 10_000;
