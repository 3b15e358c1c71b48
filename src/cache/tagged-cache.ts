import { BoundedCache } from "./bounded-cache.ts";

/** Estimated memory of an entry besides its value, key and tags. */
const ENTRY_BYTES = 400;
/** Estimated memory of each tag of an entry. The string itself is shared with other entries. */
const TAG_BYTES = 100;
const BYTES_PER_CHAR = 2;
/** Maximum number of invalidated tags that a pending lookup records. Beyond it, the lookup's result isn't cached. */
const RECORDED_CHANGES_MAX = 1_000;

export type Loaded<V> = {
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
  mayAddTags?: boolean;
  /** @param willBeCached false if `load` can skip work that only caching needs. */
  load(willBeCached: boolean): Promise<Loaded<V>>;
};

type Entry<V> = { value: V; tags: readonly string[]; bytes: number };
/** A pending lookup. */
type Load<V> = {
  tags: readonly string[];
  /** The tags invalidated since the lookup began. Null if `load` returns no additional tags. */
  changed: Set<string> | null;
  isStale: boolean;
  value: Promise<V>;
};

export type TaggedCacheOptions<V> = {
  bytesMax: number;
  /** Larger values are not cached. */
  entryBytesMax: number;
  ttlMs: number;
  bytesOf(value: V): number;
  /** Returns whether `forget` is called for all changes. If it returns false, the cache isn't used. */
  receivesChanges(): boolean;
  now?: () => number;
};

/**
 * A cache whose values have tags for the data that they depend on. Failures aren't cached, and neither is a value whose tag
 * was invalidated during the lookup. Concurrent requests for a key share one lookup, unless one of its tags was invalidated
 * after it began.
 */
export class TaggedCache<V extends NonNullable<unknown>> {
  readonly #entries: BoundedCache<Entry<V>>;
  readonly #keys = new Map<string, Set<string>>();
  readonly #loads = new Map<string, Load<V>>();
  /** All pending lookups, including those that were replaced by newer ones in `#loads`. */
  readonly #pendingLoad = new Set<Load<V>>();
  readonly #options: TaggedCacheOptions<V>;

  constructor(options: TaggedCacheOptions<V>) {
    const { bytesMax, ttlMs, now } = options;
    this.#options = options;
    this.#entries = new BoundedCache({
      max: bytesMax,
      ttlMs,
      bytesOf: ({ bytes }) => bytes,
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
    if (!this.#options.receivesChanges()) return { isHit: false, value: (await lookup.load(false)).value };
    const cached = this.#entries.get(lookup.key);
    if (cached) return { isHit: true, value: cached.value };
    const pendingLoad = this.#loads.get(lookup.key);
    if (pendingLoad && !pendingLoad.isStale && !pendingLoad.changed?.size)
      return { isHit: true, value: await pendingLoad.value };
    return { isHit: false, value: await this.#load(lookup) };
  }

  /** Invalidates all values with this tag, including those of pending lookups. */
  invalidate(tag: string): void {
    const keys = this.#keys.get(tag);
    if (keys) for (const key of [...keys]) this.#entries.delete(key);
    for (const load of this.#pendingLoad) {
      if (load.tags.includes(tag)) load.isStale = true;
      else if (load.changed && !load.isStale) {
        load.changed.add(tag);
        if (load.changed.size > RECORDED_CHANGES_MAX) load.isStale = true;
      }
    }
  }

  invalidateAll(): void {
    this.#entries.clear();
    for (const load of this.#pendingLoad) load.isStale = true;
  }

  #load({ key, tags, mayAddTags, load }: TaggedLookup<V>): Promise<V> {
    const loading: Load<V> = {
      tags,
      changed: mayAddTags ? new Set() : null,
      isStale: false,
      value: undefined as never,
    };
    const run = async () => {
      try {
        const loaded = await load(true);
        if (!loaded.isUncacheable) this.#store(key, loading, loaded);
        return loaded.value;
      } finally {
        this.#pendingLoad.delete(loading);
        if (this.#loads.get(key) === loading) this.#loads.delete(key);
      }
    };
    this.#pendingLoad.add(loading);
    this.#loads.set(key, loading);
    loading.value = run();
    return loading.value;
  }

  #store(key: string, { isStale, changed, ...load }: Load<V>, { value, tags: additionalTags = [] }: Loaded<V>): void {
    const { receivesChanges, bytesOf, entryBytesMax } = this.#options;
    if (isStale || !receivesChanges() || additionalTags.some((tag) => changed?.has(tag))) return;
    const bytes = bytesOf(value);
    if (bytes > entryBytesMax) return;
    const tags = [...load.tags, ...additionalTags];
    const entry = { value, tags, bytes: bytes + BYTES_PER_CHAR * key.length + TAG_BYTES * tags.length + ENTRY_BYTES };
    this.#entries.set(key, entry);
    // An entry larger than the whole cache isn't stored.
    if (!this.#entries.has(key)) return;
    for (const tag of tags) {
      const keys = this.#keys.get(tag);
      if (keys) keys.add(key);
      else this.#keys.set(tag, new Set([key]));
    }
  }

  #removeKey(key: string, tags: readonly string[]): void {
    for (const tag of tags) {
      const keys = this.#keys.get(tag);
      keys?.delete(key);
      if (keys?.size === 0) this.#keys.delete(tag);
    }
  }
}
