import { BoundedCache } from "./bounded-cache.ts";

/** Estimated memory of an entry besides its value, key and tags. */
const ENTRY_BYTES = 400;
/** Estimated memory of each tag of an entry. The string itself is shared with other entries. */
const TAG_BYTES = 100;
const BYTES_PER_CHAR = 2;
/** Maximum number of invalidated tags that a pending lookup records. Beyond it, the lookup's result isn't cached. */
const RECORDED_CHANGES_MAX = 1_000;

export type LoadedValue<V> = {
  value: V;
  /** Additional tags that depend on the loaded value. */
  tags?: readonly string[];
  /** Whether the value must not be cached. */
  isUncacheable?: boolean;
};

export type TaggedLookup<V> = {
  key: string;
  /** The tags of the value. Invalidating one of them removes it from the cache. */
  tags: readonly string[];
  /** Whether `load` may return additional tags. */
  canAddTags?: boolean;
  /** @param willBeCached false if `load` can skip work that only caching needs. */
  load(willBeCached: boolean): Promise<LoadedValue<V>>;
};

type Entry<V> = { value: V; tags: readonly string[]; bytes: number };
/** A pending lookup. */
type PendingLookup<V> = {
  tags: readonly string[];
  /** The tags invalidated since the lookup began. Null if `load` returns no additional tags. */
  changedTags: Set<string> | null;
  isStale: boolean;
  value: Promise<V>;
};

export type TaggedCacheOptions<V> = {
  bytesMax: number;
  /** Larger values are not cached. */
  entryBytesMax: number;
  ttlMs: number;
  getSizeBytes(value: V): number;
  /** Returns whether `invalidate` is called for all changes. If it returns false, the cache isn't used. */
  isReceivingChanges(): boolean;
  now?: () => number;
};

/**
 * A cache whose values have tags for the data that they depend on. Failures aren't cached, and neither is a value whose tag
 * was invalidated during the lookup. Concurrent requests for a key share one lookup, unless one of its tags was invalidated
 * after it began.
 */
export class TaggedCache<V extends NonNullable<unknown>> {
  readonly #entries: BoundedCache<Entry<V>>;
  readonly #keysByTag = new Map<string, Set<string>>();
  readonly #latestLookups = new Map<string, PendingLookup<V>>();
  /** All pending lookups, including those that were replaced by newer ones in `#latestLookups`. */
  readonly #pendingLookups = new Set<PendingLookup<V>>();
  readonly #options: TaggedCacheOptions<V>;

  constructor(options: TaggedCacheOptions<V>) {
    const { bytesMax, ttlMs, now } = options;
    this.#options = options;
    this.#entries = new BoundedCache({
      maxSize: bytesMax,
      ttlMs,
      getSizeBytes: ({ bytes }) => bytes,
      now,
      onEvict: (key, { tags }) => this.#removeKey(key, tags),
    });
  }

  /** The number of entries in memory, and their total size. */
  get size(): { entries: number; bytes: number } {
    return { entries: this.#entries.size, bytes: this.#entries.bytes };
  }

  /** Returns the value and whether it was cached. @throws the errors of `load`. */
  async find(lookup: TaggedLookup<V>): Promise<{ isHit: boolean; value: V }> {
    if (!this.#options.isReceivingChanges()) return { isHit: false, value: (await lookup.load(false)).value };
    const cached = this.#entries.get(lookup.key);
    if (cached) return { isHit: true, value: cached.value };
    const pendingLookup = this.#latestLookups.get(lookup.key);
    if (pendingLookup && !pendingLookup.isStale && !pendingLookup.changedTags?.size)
      return { isHit: true, value: await pendingLookup.value };
    return { isHit: false, value: await this.#startLookup(lookup) };
  }

  /** Invalidates all values with this tag, including those of pending lookups. */
  invalidate(tag: string): void {
    const keys = this.#keysByTag.get(tag);
    if (keys) for (const key of [...keys]) this.#entries.delete(key);
    for (const lookup of this.#pendingLookups) {
      if (lookup.tags.includes(tag)) lookup.isStale = true;
      else if (lookup.changedTags && !lookup.isStale) {
        lookup.changedTags.add(tag);
        if (lookup.changedTags.size > RECORDED_CHANGES_MAX) lookup.isStale = true;
      }
    }
  }

  invalidateAll(): void {
    this.#entries.clear();
    for (const lookup of this.#pendingLookups) lookup.isStale = true;
  }

  #startLookup({ key, tags, canAddTags, load }: TaggedLookup<V>): Promise<V> {
    const pendingLookup: PendingLookup<V> = {
      tags,
      changedTags: canAddTags ? new Set() : null,
      isStale: false,
      value: undefined as never,
    };
    const run = async () => {
      try {
        const loaded = await load(true);
        if (!loaded.isUncacheable) this.#storeResult(key, pendingLookup, loaded);
        return loaded.value;
      } finally {
        this.#pendingLookups.delete(pendingLookup);
        if (this.#latestLookups.get(key) === pendingLookup) this.#latestLookups.delete(key);
      }
    };
    this.#pendingLookups.add(pendingLookup);
    this.#latestLookups.set(key, pendingLookup);
    pendingLookup.value = run();
    return pendingLookup.value;
  }

  #storeResult(
    key: string,
    { isStale, changedTags, tags: declaredTags }: PendingLookup<V>,
    { value, tags: additionalTags = [] }: LoadedValue<V>,
  ): void {
    const { isReceivingChanges, getSizeBytes, entryBytesMax } = this.#options;
    if (isStale || !isReceivingChanges() || additionalTags.some((tag) => changedTags?.has(tag))) return;
    const bytes = getSizeBytes(value);
    if (bytes > entryBytesMax) return;
    const tags = [...declaredTags, ...additionalTags];
    const entry = { value, tags, bytes: bytes + BYTES_PER_CHAR * key.length + TAG_BYTES * tags.length + ENTRY_BYTES };
    this.#entries.set(key, entry);
    // An entry larger than the whole cache isn't stored.
    if (!this.#entries.has(key)) return;
    for (const tag of tags) {
      const keys = this.#keysByTag.get(tag);
      if (keys) keys.add(key);
      else this.#keysByTag.set(tag, new Set([key]));
    }
  }

  #removeKey(key: string, tags: readonly string[]): void {
    for (const tag of tags) {
      const keys = this.#keysByTag.get(tag);
      keys?.delete(key);
      if (keys?.size === 0) this.#keysByTag.delete(tag);
    }
  }
}
