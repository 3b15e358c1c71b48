import { BoundedMap } from "./bounded-map.ts";

type Entry<T> = { value: Promise<T>; until: number };

/**
 * Remembers for `keptMs` what was found under a key, so that a burst of requests asks once. What is forgotten while it is
 * looked up is not remembered either, and a failed look-up never is.
 * @param entriesMax beyond it the oldest entry goes.
 */
export function createShortCache<T>(
  load: (key: string) => Promise<T>,
  { keptMs, entriesMax }: { keptMs: number; entriesMax: number },
) {
  const entries = new BoundedMap<string, Entry<T>>(entriesMax);

  return {
    find(key: string): Promise<T> {
      const known = entries.get(key);
      if (known && known.until > performance.now()) return known.value;
      const entry: Entry<T> = { value: load(key), until: performance.now() + keptMs };
      entries.set(key, entry);
      entry.value.catch(() => {
        if (entries.get(key) === entry) entries.delete(key);
      });
      return entry.value;
    },

    forget(keys: readonly string[]): void {
      for (const key of keys) entries.delete(key);
    },

    forgetAll(): void {
      entries.clear();
    },
  };
}
