/** A seeded random number generator. Timing still varies between test runs with the same seed. */
export type Random = {
  /** Returns a number in [0, 1). */
  next(): number;
  /** Returns an integer from `min` to `max`, inclusive. */
  int(min: number, max: number): number;
  pick<T>(list: readonly T[]): T;
  /** Creates an independent generator, for a concurrent task. */
  fork(): Random;
};

/** Creates a generator with the Mulberry32 algorithm. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  function next(): number {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
  const int = (min: number, max: number) => min + Math.floor(next() * (max - min + 1));
  return {
    next,
    int,
    pick<T>(list: readonly T[]): T {
      const picked = list[int(0, list.length - 1)];
      if (picked === undefined) throw new Error("The list is empty.");
      return picked;
    },
    fork: () => createRandom(int(0, 2 ** 32 - 1)),
  };
}
