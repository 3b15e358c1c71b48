import { BoundedCache } from "./bounded-cache.ts";

export type LookupCache<T> = {
  /** Returns the cached value of a key, or the result of `load`. @throws whatever `load` throws. */
  find(key: string): Promise<T>;
  forget(keys: readonly string[]): void;
  forgetAll(): void;
};

/**
 * Caches lookups for `ttlMs`, so that a burst of requests causes only one. A result isn't cached if its key was invalidated
 * during the lookup, and neither is a failure.
 * @param entriesMax above this number, the least recently used entries are evicted.
 */
export function createLookupCache<T>(
  load: (key: string) => Promise<T>,
  { ttlMs, entriesMax }: { ttlMs: number; entriesMax: number },
): LookupCache<T> {
  const found = new BoundedCache<Promise<T>>({ max: entriesMax, ttlMs });

  return {
    find(key) {
      const known = found.get(key);
      if (known) return known;
      const loading = load(key);
      found.set(key, loading);
      loading.catch(() => found.deleteValue(key, loading));
      return loading;
    },

    forget(keys) {
      for (const key of keys) found.delete(key);
    },

    forgetAll: () => found.clear(),
  };
}
