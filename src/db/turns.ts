import { Problem } from "../lib/problem.ts";

/** How long something may wait in this process, and how many may. */
const WAIT_MS_MAX = 10_000;
/** When to try again, or up to twice as late: not all at the same moment. */
const RETRY_AFTER_MS = 1_000;

const createOverloaded = (): Problem =>
  new Problem("overloaded", "Too many changes are waiting. Try again.", {
    retryAfterMs: Math.round(RETRY_AFTER_MS * (1 + Math.random())),
  });

type Waiting = { begin(): void; fail(error: unknown): void };

/** Places that are given out in the order in which they are asked for. */
export interface Places {
  /** Runs `work` on a place. @throws Problem `overloaded` when too many wait, or for too long; whatever `work` throws. */
  run<T>(work: () => Promise<T>): Promise<T>;
  isIdle(): boolean;
  waiting(): number;
}

type PlacesOptions = {
  waitingMax?: number;
  /** Called with the time that one waited for its place. */
  onWait?: ((waitMs: number) => void) | undefined;
};

export function createPlaces(
  count: number,
  { waitingMax = Number.POSITIVE_INFINITY, onWait }: PlacesOptions = {},
): Places {
  let free = count;
  const waiting = new Set<Waiting>();

  function take(): Promise<void> {
    if (free > 0) {
      free -= 1;
      return Promise.resolve();
    }
    if (waiting.size >= waitingMax) throw createOverloaded();
    return new Promise((resolve, reject) => {
      const leave = () => {
        clearTimeout(timer);
        waiting.delete(entry);
      };
      const sinceMs = performance.now();
      const entry: Waiting = {
        begin() {
          leave();
          onWait?.(performance.now() - sinceMs);
          resolve();
        },
        fail(error) {
          leave();
          reject(error);
        },
      };
      const timer = setTimeout(() => entry.fail(createOverloaded()), WAIT_MS_MAX);
      waiting.add(entry);
    });
  }

  function release(): void {
    const [next] = waiting;
    if (next) next.begin();
    else free += 1;
  }

  return {
    async run(work) {
      await take();
      try {
        return await work();
      } finally {
        release();
      }
    },

    isIdle: () => free === count,
    waiting: () => waiting.size,
  };
}

type Turn = { places: Places; wasLocked: boolean };

/** Work of the same key runs one after the other, in order. */
export interface Turns {
  /**
   * @param work is told whether the work before it, for which it waited, met a lock. That need not be the lock of a row
   * that this one needs, so it has to look for itself, but shortly.
   * @param isLock whether an error says so.
   * @throws Problem `overloaded`; whatever `work` throws.
   */
  run<T>(key: string, work: (wasLocked: boolean) => Promise<T>, isLock: (error: unknown) => boolean): Promise<T>;
}

/** @param waitingMax how much work of a key may wait. */
export function createTurns(waitingMax: number): Turns {
  const turns = new Map<string, Turn>();

  return {
    async run(key, work, isLock) {
      const turn = turns.get(key) ?? { places: createPlaces(1, { waitingMax }), wasLocked: false };
      turns.set(key, turn);
      try {
        return await turn.places.run(async () => {
          try {
            const result = await work(turn.wasLocked);
            turn.wasLocked = false;
            return result;
          } catch (error) {
            turn.wasLocked = isLock(error);
            throw error;
          }
        });
      } finally {
        if (turn.places.isIdle()) turns.delete(key);
      }
    },
  };
}
