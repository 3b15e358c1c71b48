import { BoundedCache } from "./bounded-cache.ts";

export type LookupCache<T> = {
  /** Returns the cached value of a key, or the result of `load`. @throws the errors of `load`. */
  find(key: string): Promise<T>;
  invalidate(keys: readonly string[]): void;
  invalidateAll(): void;
};

/**
 * Creates a cache of lookups. Concurrent requests for a key share one lookup. Failures aren't cached, and neither is a result
 * whose key was invalidated during the lookup.
 */
export function createLookupCache<T>(
  load: (key: string) => Promise<T>,
  { ttlMs, entriesMax }: { ttlMs: number; entriesMax: number },
): LookupCache<T> {
  const entries = new BoundedCache<Promise<T>>({ maxSize: entriesMax, ttlMs });

  return {
    find(key) {
      const cached = entries.get(key);
      if (cached) return cached;
      const loading = load(key);
      entries.set(key, loading);
      loading.catch(() => entries.deleteValue(key, loading));
      return loading;
    },

    invalidate(keys) {
      for (const key of keys) entries.delete(key);
    },

    invalidateAll: () => entries.clear(),
  };
}
