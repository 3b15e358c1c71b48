/** Timeout for connecting, and for listing tools. A slower server counts as unavailable. */
export const LIST_TIMEOUT_MS = 5_000;
/** How long an answer waits for the tools of a server whose last listing failed. */
export const LIST_RETRY_WAIT_MS = 1_000;
/**
 * How long a list of tools counts as fresh. After that, it is still used once, while it is refreshed in the background.
 */
export const LIST_FRESH_MS = 60_000;
/** Minimum time between two listings, no matter how often a server announces changes. */
export const LIST_GAP_MS = 1_000;

/** Backoff for a failing server, doubled with each failure, with jitter. */
export const BACKOFF_MIN_MS = 1_000;
export const BACKOFF_MAX_MS = 60_000;

/** Maximum size of one decompressed response in bytes. Larger ones fail, so that no server can exhaust memory. */
export const RESPONSE_BYTES_MAX = 4 * 1024 * 1024;
/** Maximum concurrent requests per server, so that a hanging server doesn't use up all connections of this process. */
export const REQUESTS_MAX = 64;

/** Maximum tools per server. Providers reject requests with more than 128 tools in total. */
export const SERVER_TOOLS_MAX = 64;
/** Maximum pages of a tool list. */
export const PAGES_MAX = 16;

/** Maximum users whose connections to one server are kept open, for servers with per-user identity. */
export const USERS_MAX = 500;
export const USER_TTL_MS = 10 * 60_000;

/** How long to wait for the server's response when ending a session. */
export const SESSION_END_TIMEOUT_MS = 1_000;
