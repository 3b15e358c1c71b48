/** Maximum length of a key's name after trimming, in UTF-16 code units. */
export const NAME_CHARS_MAX = 100;
/** The time for which an expired key remains in its owner's list. */
export const EXPIRED_KEY_RETENTION_S = 30 * 24 * 60 * 60;
/** The number of expired keys deleted per batch. */
export const EXPIRED_KEYS_BATCH_ROWS = 10_000;

/** The maximum time until an instance notices another instance's change to a key or user. */
export const KEY_CACHE_MS = 1_000;
/** The maximum number of entries per cache. The least recently used entry is evicted. */
export const KEYS_CACHED_MAX = 20_000;
/** The minimum interval at which an instance writes a key's `last_used_at`. */
export const LAST_USED_INTERVAL_MS = 60_000;
/** The minimum interval at which an instance records that a key acted for a user. */
export const ACTED_FOR_INTERVAL_MS = 60 * 60 * 1000;
