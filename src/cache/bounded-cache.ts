import { LRUCache } from "lru-cache";

/** Maximum number of expired entries that one call removes, so that no call is slow. */
const EXPIRED_REMOVED_MAX = 1_000;

const freshOnly = { allowStale: false };

export type CacheBounds<V> = {
  /** Above this size, the least recently used entries are evicted. In bytes if `getSizeBytes` is set, otherwise in entries. */
  maxSize: number;
  /** Time after which an entry expires. By default, entries don't expire. */
  ttlMs?: number;
  /** Returns the size of a value. By default, each value counts as 1. A value larger than `maxSize` isn't cached. */
  getSizeBytes?: (value: V) => number;
  /** The clock for `ttlMs`, in milliseconds. The default is `performance.now()`. */
  now?: () => number;
  /** Called for each entry that is deleted, replaced, evicted or expired. */
  onEvict?: (key: string, value: V) => void;
};

/**
 * A cache with a maximum size. Entries may be evicted at any time. Clients can't exhaust the memory, even if they choose the
 * keys.
 */
export class BoundedCache<V extends NonNullable<unknown>> {
  readonly #entries: LRUCache<string, V>;
  readonly #canExpire: boolean;

  constructor({ maxSize, ttlMs = 0, getSizeBytes = () => 1, now = () => performance.now(), onEvict }: CacheBounds<V>) {
    this.#canExpire = ttlMs > 0;
    this.#entries = new LRUCache({
      // `maxSize` is set even if entries are only counted: with `max`, the library preallocates them all (4 MB for 100,000).
      maxSize,
      sizeCalculation: (value) => Math.max(1, getSizeBytes(value)),
      ttl: ttlMs,
      // With a value above 0, the library would start a timer every millisecond.
      ttlResolution: 0,
      // The code below must see expired entries to remove them. By default, the library hides them.
      allowStale: true,
      perf: { now },
      ...(onEvict && { dispose: (value: V, key: string) => onEvict(key, value) }),
    });
  }

  /** The number of entries in memory, including expired ones that haven't been removed yet. */
  get size(): number {
    return this.#entries.size;
  }

  /** The total size of all entries: in bytes if `getSizeBytes` is set, otherwise their number. */
  get bytes(): number {
    return this.#entries.calculatedSize;
  }

  get(key: string): V | undefined {
    return this.#entries.get(key, freshOnly);
  }

  /** Returns whether there is an entry, expired or not. */
  has(key: string): boolean {
    return this.#entries.peek(key, { allowStale: true }) !== undefined;
  }

  set(key: string, value: V): void {
    if (this.#canExpire) this.#removeExpired();
    this.#entries.set(key, value);
  }

  delete(key: string): boolean {
    return this.#entries.delete(key);
  }

  /** Deletes an entry if it still has this value. */
  deleteValue(key: string, value: V): void {
    if (this.#entries.peek(key) === value) this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }

  #removeExpired(): void {
    for (let count = 0; count < EXPIRED_REMOVED_MAX; count += 1) {
      const [oldest] = this.#entries.rkeys();
      if (oldest === undefined || this.#entries.getRemainingTTL(oldest) > 0) return;
      this.#entries.delete(oldest);
    }
  }
}
