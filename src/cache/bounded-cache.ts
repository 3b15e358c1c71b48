import { LRUCache } from "lru-cache";

/** Expired entries are removed as new ones arrive, a limited number each time, so no single call is slow. */
const CLEARED_MAX = 1_000;

const notStale = { allowStale: false };

export type CacheBounds<V> = {
  /** Above this size the least recently used entries are evicted. Counts bytes if `bytesOf` is set. */
  max: number;
  /** Entries expire this long after they were set; absent: never. */
  ttlMs?: number;
  /** The size of a value; absent: each counts 1. A value larger than `max` is not kept. */
  bytesOf?: (value: V) => number;
  /** The clock for `ttlMs`, in milliseconds above 0; absent: a monotonic one. */
  now?: () => number;
  /** Called for each entry that is deleted, replaced, evicted or expired. */
  onEvict?: (key: string, value: V) => void;
};

/**
 * Parley's only cache: bounded, so clients that choose its keys can't fill the memory. Entries can be lost at any time; each
 * use documents its bounds.
 */
export class BoundedCache<V extends NonNullable<unknown>> {
  readonly #entries: LRUCache<string, V>;
  readonly #canAge: boolean;

  constructor({ max, ttlMs = 0, bytesOf = () => 1, now = () => performance.now(), onEvict }: CacheBounds<V>) {
    this.#canAge = ttlMs > 0;
    this.#entries = new LRUCache({
      // Limits by size even for counts: with `max` the library allocates everything immediately, 4 MB for 100,000 entries.
      maxSize: max,
      sizeCalculation: (value) => Math.max(1, bytesOf(value)),
      ttl: ttlMs,
      // Above 0 it would start a timer every millisecond.
      ttlResolution: 0,
      // Keeps expired entries findable, so that the code below can remove them.
      allowStale: true,
      perf: { now },
      ...(onEvict && { dispose: (value: V, key: string) => onEvict(key, value) }),
    });
  }

  /** Entries in memory, including expired ones not removed yet. */
  get size(): number {
    return this.#entries.size;
  }

  /** The size of all entries: bytes with `bytesOf`, otherwise 1 each. */
  get bytes(): number {
    return this.#entries.calculatedSize;
  }

  get(key: string): V | undefined {
    return this.#entries.get(key, notStale);
  }

  /** Whether there is an entry, expired or not. */
  has(key: string): boolean {
    return this.#entries.peek(key, { allowStale: true }) !== undefined;
  }

  set(key: string, value: V): void {
    if (this.#canAge) this.#clearOld();
    this.#entries.set(key, value);
  }

  delete(key: string): boolean {
    return this.#entries.delete(key);
  }

  /** Deletes an entry only if it still has this value. */
  deleteValue(key: string, value: V): void {
    if (this.#entries.peek(key) === value) this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }

  #clearOld(): void {
    for (let count = 0; count < CLEARED_MAX; count += 1) {
      const [oldest] = this.#entries.rkeys();
      if (oldest === undefined || this.#entries.getRemainingTTL(oldest) > 0) return;
      this.#entries.delete(oldest);
    }
  }
}
