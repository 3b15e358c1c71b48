import { LRUCache } from "lru-cache";

/** What is too old is cleared away as new entries come, but no more of it at once, so that nobody waits for it. */
const CLEARED_MAX = 1_000;

const notStale = { allowStale: false };

export type CacheBounds<V> = {
  /** Beyond it the entries go that have not been used for longest. With `bytesOf`, it counts bytes. */
  max: number;
  /** An entry is not found any more so long after it was set; absent: its age does not matter. */
  keptMs?: number;
  /** The size of a value; absent: each counts 1. A value that alone is larger than `max` is not kept. */
  bytesOf?: (value: V) => number;
  /** The clock of `keptMs`, in milliseconds above 0; absent: one that never jumps. */
  now?: () => number;
  /** Called for each entry that goes: deleted, replaced, pushed out or too old. */
  onGone?: (key: string, value: V) => void;
};

/**
 * The one cache of Parley: bounded, so that strangers who choose its keys cannot fill the memory. Everything in it can be
 * lost at any time; each place that has one says what its bounds are for.
 */
export class BoundedCache<V extends NonNullable<unknown>> {
  readonly #entries: LRUCache<string, V>;
  readonly #canAge: boolean;

  constructor({ max, keptMs = 0, bytesOf = () => 1, now = () => performance.now(), onGone }: CacheBounds<V>) {
    this.#canAge = keptMs > 0;
    this.#entries = new LRUCache({
      // By size also where it is a count: for `max` the library takes the whole memory at once, 4 MB for 100,000 entries.
      maxSize: max,
      sizeCalculation: (value) => Math.max(1, bytesOf(value)),
      ttl: keptMs,
      // Above 0 it would start a timer each millisecond.
      ttlResolution: 0,
      // So that what is too old is found, and cleared away below.
      allowStale: true,
      perf: { now },
      ...(onGone && { dispose: (value: V, key: string) => onGone(key, value) }),
    });
  }

  /** Entries in memory, among them those that are too old and not cleared away yet. */
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

  /** Whether there is an entry, too old or not. */
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
