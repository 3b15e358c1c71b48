/** How long an access token is good; a session that ends takes its tokens with it at once. */
export const ACCESS_TOKEN_TTL_S = 15 * 60;
/** A session that is not refreshed for so long ends. */
export const SESSION_IDLE_S = 30 * 24 * 60 * 60;
/** A session ends after so long even if it is used every day. */
export const SESSION_ABSOLUTE_S = 90 * 24 * 60 * 60;
/** For so long the direct predecessor of a refresh token gets the same successor again: answers are lost, tabs race. */
export const REFRESH_GRACE_S = 10;
/** A login that is younger stands for the password where an account is changed or deleted. */
export const RECENT_LOGIN_S = 5 * 60;
/** Between the making of a ticket and the WebSocket that spends it. */
export const TICKET_TTL_S = 30;
/** Ended sessions are kept for so long, so that other instances learn of them. */
export const ENDED_SESSION_KEPT_S = 24 * 60 * 60;

/** How long another instance's revocation may go unnoticed by requests; revocations of this one count at once. */
export const IDENTITY_CACHE_MS = 1_000;
/** Entries of each cache; beyond it the one goes that has not been used for longest. */
export const IDENTITIES_CACHED_MAX = 20_000;
/** What is kept of a client's name. */
export const USER_AGENT_CHARS_MAX = 200;
/** With REGISTRATION_PRIVACY registrations are answered after a multiple of this: longer than a hash and its transactions take. */
export const REGISTRATION_STEP_MS = 250;
/** Longer credentials are not looked at. */
export const TOKEN_CHARS_MAX = 1_024;
/** Ended sessions that one look-up or one round of sweeping handles. */
export const ENDED_SESSIONS_BATCH = 10_000;
