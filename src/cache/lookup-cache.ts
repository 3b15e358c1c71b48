import { BoundedCache } from "./bounded-cache.ts";

export type LookupCache<T> = {
  /** What is known of a key, or what `load` finds now. @throws whatever `load` throws. */
  find(key: string): Promise<T>;
  forget(keys: readonly string[]): void;
  forgetAll(): void;
};

/**
 * Remembers for `keptMs` what was found under a key, so that a burst of requests asks once. What is forgotten while it is
 * looked up is not remembered either, and a failed look-up never is.
 * @param entriesMax beyond it the entries go that have not been used for longest.
 */
export function createLookupCache<T>(
  load: (key: string) => Promise<T>,
  { keptMs, entriesMax }: { keptMs: number; entriesMax: number },
): LookupCache<T> {
  const found = new BoundedCache<Promise<T>>({ max: entriesMax, keptMs });

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
