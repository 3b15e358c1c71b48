/** Maximum length of a key's name after trimming, in UTF-16 units. */
export const NAME_CHARS_MAX = 100;
/** How long an expired key stays in its owner's list. */
export const EXPIRED_KEY_RETENTION_S = 30 * 24 * 60 * 60;
/** Expired keys deleted per batch. */
export const EXPIRED_KEYS_BATCH = 10_000;

/** How long an instance may miss a change that another one made to a key or a user. */
export const KEY_CACHE_MS = 1_000;
/** Entries per cache; the least recently used entry is evicted. */
export const KEYS_CACHED_MAX = 20_000;
/** Each instance writes a key's `last_used_at` at most this often. */
export const LAST_USED_EVERY_MS = 60_000;
/** Each instance records at most this often that a key acted for a user. */
export const ACTED_FOR_EVERY_MS = 60 * 60 * 1000;
