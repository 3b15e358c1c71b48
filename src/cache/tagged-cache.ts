import { BoundedCache } from "./bounded-cache.ts";

/** The size of an entry apart from its value, key and tags. */
const ENTRY_BYTES = 400;
/** The size of one tag of an entry: its string is shared with other entries, its places in two sets are not. */
const TAG_BYTES = 100;
const BYTES_PER_CHAR = 2;
/** The number of invalidations that a pending lookup records. Above it, everything counts as invalidated. */
const RECORDED_CHANGES_MAX = 1_000;

export type Loaded<V> = {
  value: V;
  /** Further tags, known only once the value is loaded. */
  tags?: readonly string[];
  /** Whether the value must not be cached. */
  isUncacheable?: boolean;
};

export type TaggedLookup<V> = {
  key: string;
  /** What the value depends on. Invalidating any of these tags drops it. */
  tags: readonly string[];
  /** Whether `load` may add tags. */
  mayAddTags?: boolean;
  /** @param isKept whether the value may be cached; if false, `load` can skip work that only caching needs. */
  load(isKept: boolean): Promise<Loaded<V>>;
};

type Entry<V> = { value: V; tags: readonly string[]; bytes: number };
/** A pending lookup. */
type Load<V> = {
  tags: readonly string[];
  /** Tags invalidated since the lookup began, if it may add tags. */
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
  /** Returns whether `forget` is called for every change; while false, the cache is neither filled nor read. */
  receivesChanges(): boolean;
  now?: () => number;
};

/**
 * Caches values for `ttlMs`, tagged with what they depend on. A value isn't cached if one of its tags was invalidated
 * during its lookup, and neither is a failure. Concurrent requests for a key share a lookup, unless one of its tags was
 * invalidated after it began.
 */
export class TaggedCache<V extends NonNullable<unknown>> {
  readonly #entries: BoundedCache<Entry<V>>;
  readonly #keys = new Map<string, Set<string>>();
  readonly #loads = new Map<string, Load<V>>();
  /** All pending lookups, including those that a newer one has replaced in `#loads`. */
  readonly #running = new Set<Load<V>>();
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

  /** Returns the value and whether it was cached. @throws whatever `load` throws. */
  async find(lookup: TaggedLookup<V>): Promise<{ isHit: boolean; value: V }> {
    if (!this.#options.receivesChanges()) return { isHit: false, value: (await lookup.load(false)).value };
    const known = this.#entries.get(lookup.key);
    if (known) return { isHit: true, value: known.value };
    const running = this.#loads.get(lookup.key);
    if (running && !running.isStale && !running.changed?.size) return { isHit: true, value: await running.value };
    return { isHit: false, value: await this.#load(lookup) };
  }

  /** Invalidates everything with this tag, including pending lookups that may have it. */
  forget(tag: string): void {
    const keys = this.#keys.get(tag);
    if (keys) for (const key of [...keys]) this.#entries.delete(key);
    for (const load of this.#running) {
      if (load.tags.includes(tag)) load.isStale = true;
      else if (load.changed && !load.isStale) {
        load.changed.add(tag);
        if (load.changed.size > RECORDED_CHANGES_MAX) load.isStale = true;
      }
    }
  }

  forgetAll(): void {
    this.#entries.clear();
    for (const load of this.#running) load.isStale = true;
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
        this.#running.delete(loading);
        if (this.#loads.get(key) === loading) this.#loads.delete(key);
      }
    };
    this.#running.add(loading);
    this.#loads.set(key, loading);
    loading.value = run();
    return loading.value;
  }

  #store(key: string, { isStale, changed, ...load }: Load<V>, { value, tags: further = [] }: Loaded<V>): void {
    const { receivesChanges, bytesOf, entryBytesMax } = this.#options;
    if (isStale || !receivesChanges() || further.some((tag) => changed?.has(tag))) return;
    const bytes = bytesOf(value);
    if (bytes > entryBytesMax) return;
    const tags = [...load.tags, ...further];
    const entry = { value, tags, bytes: bytes + BYTES_PER_CHAR * key.length + TAG_BYTES * tags.length + ENTRY_BYTES };
    this.#entries.set(key, entry);
    // The entry is larger than the whole cache, so it wasn't stored.
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
