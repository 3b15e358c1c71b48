/** UTF-16 units of a key's name after trimming. */
export const NAME_CHARS_MAX = 100;
/** An expired key stays in its owner's list for so long. */
export const EXPIRED_KEY_KEPT_S = 30 * 24 * 60 * 60;
/** Expired keys that one round of sweeping deletes. */
export const EXPIRED_KEYS_BATCH = 10_000;

/** How long what another instance changed of a key, or of whom it acts for, may go unnoticed by requests. */
export const KEY_CACHE_MS = 1_000;
/** Entries of each cache; beyond it the one goes that has not been used for longest. */
export const KEYS_CACHED_MAX = 20_000;
/** `last_used_at` is written at most so often, by each instance. */
export const LAST_USED_EVERY_MS = 60_000;
/** That a key acts for a user is recorded at most so often, by each instance. */
export const ACTED_FOR_EVERY_MS = 60 * 60 * 1000;
