/** Timeout for connecting, and for listing tools. A slower server counts as unavailable. */
export const LIST_TIMEOUT_MS = 5_000;
/** Maximum time that an answer waits for a server's tools if the last attempt to list them failed. */
export const LIST_RETRY_WAIT_MS_MAX = 1_000;
/** Maximum age of a tool list. An older list is refreshed in the background. Until the refresh is complete, answers use the old list. */
export const LIST_FRESH_AGE_MS_MAX = 60_000;
/** Minimum interval between two requests for a tool list, regardless of how often a server announces changes. */
export const LIST_INTERVAL_MS_MIN = 1_000;

/** Initial backoff for a failing server. It doubles with each failure, and jitter is applied. */
export const BACKOFF_MIN_MS = 1_000;
/** Maximum backoff for a failing server. */
export const BACKOFF_MAX_MS = 60_000;

/** Maximum decompressed size of a response. Larger responses fail, so that a server can't exhaust memory. */
export const RESPONSE_BYTES_MAX = 4 * 1024 * 1024;
/** Maximum number of concurrent requests per server, so that a hanging server can't exhaust the connections of this process. */
export const REQUESTS_MAX = 64;

/** Maximum number of tools per server. Providers reject requests with more than 128 tools in total. */
export const SERVER_TOOLS_MAX = 64;
/** Maximum number of pages of a tool list. */
export const PAGES_MAX = 16;

/** Maximum number of open connections to a server with per-user identity, each for one user. */
export const USERS_MAX = 500;
/** A user's connection to a server with per-user identity is closed after it has been unused for this long. */
export const USER_TTL_MS = 10 * 60_000;

/** Timeout for closing a session. */
export const SESSION_CLOSE_TIMEOUT_MS = 1_000;
