/** The lifetime of an access token. Ending its session revokes it immediately. */
export const ACCESS_TOKEN_TTL_S = 15 * 60;
/** The time after which a session expires if it isn't refreshed. */
export const SESSION_IDLE_TIMEOUT_S = 30 * 24 * 60 * 60;
/** The time after which a session expires even if it is refreshed. */
export const SESSION_LIFETIME_MAX_S = 90 * 24 * 60 * 60;
/**
 * The grace period during which reusing the previous refresh token returns the same new token, because responses get lost and
 * tabs refresh concurrently.
 */
export const REFRESH_GRACE_S = 10;
/** How long after a login users can change or delete their account without entering their password. */
export const RECENT_LOGIN_MAX_AGE_S = 5 * 60;
/** The lifetime of a WebSocket ticket. */
export const TICKET_TTL_S = 30;
/** The time for which ended sessions are kept, so that other instances notice them. */
export const ENDED_SESSION_RETENTION_S = 24 * 60 * 60;

/** The maximum time until an instance notices another instance's revocation. Its own revocations take effect immediately. */
export const IDENTITY_CACHE_MS = 1_000;
/** The maximum number of entries per cache. The least recently used entry is evicted. */
export const IDENTITIES_CACHED_MAX = 20_000;
/** Maximum stored length of a client's `User-Agent`. */
export const USER_AGENT_CHARS_MAX = 200;
/**
 * With `REGISTRATION_PRIVACY`, the duration of a registration is padded to a multiple of this time. It is longer than password hashing and
 * the transactions usually take.
 */
export const REGISTRATION_STEP_MS = 250;
/** The maximum length of a token. Longer tokens are rejected without being parsed. */
export const TOKEN_CHARS_MAX = 1_024;
/** The maximum number of ended sessions per lookup, and of ended sessions or expired tickets per cleanup batch. */
export const ENDED_SESSIONS_BATCH_ROWS = 10_000;
