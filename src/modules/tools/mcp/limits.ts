/** Connecting and listing tools, each together. A server that takes longer counts as away. */
export const LOOK_TIMEOUT_MS = 5_000;
/** How long an answer waits for a server that failed at the last look. */
export const RELOOK_WAIT_MS = 1_000;
/** How long a list of tools counts as fresh. An older one is used once more, and renewed beside the answer. */
export const LIST_FRESH_MS = 60_000;
/** Shortest time between two looks, however often a server says that its tools have changed. */
export const LOOK_GAP_MS = 1_000;

/** A server that fails is left alone for so long, doubled with each further failure, with jitter. */
export const BACKOFF_MIN_MS = 1_000;
export const BACKOFF_MAX_MS = 60_000;

/** Bytes of one response, decompressed. More is an error, so that no server fills the memory. */
export const RESPONSE_BYTES_MAX = 4 * 1024 * 1024;
/** Requests in progress at one server. A server that hangs must not take all connections of this process. */
export const REQUESTS_MAX = 64;

/** Tools of one server. Providers refuse requests with more than 128 in all. */
export const SERVER_TOOLS_MAX = 64;
/** Pages of a list of tools. */
export const PAGES_MAX = 16;

/** Users whose connections to one server are kept, for a server that is told who calls. */
export const USERS_MAX = 500;
export const USER_KEPT_MS = 10 * 60_000;

/** How long the server is waited for when a session is ended. */
export const SESSION_END_TIMEOUT_MS = 1_000;
