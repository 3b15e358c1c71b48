import { BoundedCache } from "./bounded-cache.ts";

/** Overhead of an entry besides its value, key and tags. */
const ENTRY_BYTES = 400;
/** A tag of an entry: its text is shared, its places in two sets are not. */
const TAG_BYTES = 100;
const BYTES_PER_CHAR = 2;
/** Changes that a look-up under way takes note of. When there are more, it is as if everything had changed. */
const CHANGES_NOTED_MAX = 1_000;

export type Loaded<V> = {
  value: V;
  /** Further tags, which only the value tells. */
  tags?: readonly string[];
  /** Whether the value must not be kept. */
  isPassing?: boolean;
};

export type TaggedLookup<V> = {
  key: string;
  /** Tags that the value depends on: invalidating any of them drops it. */
  tags: readonly string[];
  /** Whether `load` may name further tags. */
  isOpen?: boolean;
  /** @param isKept whether the value may be kept: false saves the work that only serves that. */
  load(isKept: boolean): Promise<Loaded<V>>;
};

type Entry<V> = { value: V; tags: readonly string[]; bytes: number };
/** A look-up under way. */
type Load<V> = {
  tags: readonly string[];
  /** Tags invalidated meanwhile, if further tags may be added. */
  changed: Set<string> | null;
  isStale: boolean;
  value: Promise<V>;
};

export type TaggedCacheOptions<V> = {
  bytesMax: number;
  /** Larger values are not kept. */
  entryBytesMax: number;
  keptMs: number;
  bytesOf(value: V): number;
  /** Whether `forget` is called for every change; while it isn't, the cache is neither filled nor read. */
  isTold(): boolean;
  now?: () => number;
};

/**
 * Remembers values for `keptMs`, each with the tags of what it depends on. A value is not remembered if one of its tags was
 * forgotten while it was looked up, and a failed look-up never is. Requests for a key that come while it is looked up share
 * that look-up, unless something has changed since it began.
 */
export class TaggedCache<V extends NonNullable<unknown>> {
  readonly #entries: BoundedCache<Entry<V>>;
  readonly #keys = new Map<string, Set<string>>();
  readonly #loads = new Map<string, Load<V>>();
  /** Those whose place in `#loads` another one has taken are in here too. */
  readonly #running = new Set<Load<V>>();
  readonly #options: TaggedCacheOptions<V>;

  constructor(options: TaggedCacheOptions<V>) {
    const { bytesMax, keptMs, now } = options;
    this.#options = options;
    this.#entries = new BoundedCache({
      max: bytesMax,
      keptMs,
      bytesOf: ({ bytes }) => bytes,
      now,
      onGone: (key, { tags }) => this.#removeKey(key, tags),
    });
  }

  /** Entries in memory, and what they take, in bytes. */
  get size(): { entries: number; bytes: number } {
    return { entries: this.#entries.size, bytes: this.#entries.bytes };
  }

  /** @returns whether it was known, and the value. @throws whatever `load` throws. */
  async find(lookup: TaggedLookup<V>): Promise<{ isHit: boolean; value: V }> {
    if (!this.#options.isTold()) return { isHit: false, value: (await lookup.load(false)).value };
    const known = this.#entries.get(lookup.key);
    if (known) return { isHit: true, value: known.value };
    const running = this.#loads.get(lookup.key);
    if (running && !running.isStale && !running.changed?.size) return { isHit: true, value: await running.value };
    return { isHit: false, value: await this.#load(lookup) };
  }

  /** Forgets what has this tag, and what is being looked up and may have it. */
  forget(tag: string): void {
    const keys = this.#keys.get(tag);
    if (keys) for (const key of [...keys]) this.#entries.delete(key);
    for (const load of this.#running) {
      if (load.tags.includes(tag)) load.isStale = true;
      else if (load.changed && !load.isStale) {
        load.changed.add(tag);
        if (load.changed.size > CHANGES_NOTED_MAX) load.isStale = true;
      }
    }
  }

  forgetAll(): void {
    this.#entries.clear();
    for (const load of this.#running) load.isStale = true;
  }

  #load({ key, tags, isOpen, load }: TaggedLookup<V>): Promise<V> {
    const loading: Load<V> = { tags, changed: isOpen ? new Set() : null, isStale: false, value: undefined as never };
    const run = async () => {
      try {
        const loaded = await load(true);
        if (!loaded.isPassing) this.#store(key, loading, loaded);
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
    const { isTold, bytesOf, entryBytesMax } = this.#options;
    if (isStale || !isTold() || further.some((tag) => changed?.has(tag))) return;
    const bytes = bytesOf(value);
    if (bytes > entryBytesMax) return;
    const tags = [...load.tags, ...further];
    const entry = { value, tags, bytes: bytes + BYTES_PER_CHAR * key.length + TAG_BYTES * tags.length + ENTRY_BYTES };
    this.#entries.set(key, entry);
    // Larger than all of the cache, it was not taken.
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
