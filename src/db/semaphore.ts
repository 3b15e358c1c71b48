import { Problem } from "../lib/problem.ts";

/** Limits on how long work may wait in this process, and on how much. */
const WAIT_MS_MAX = 10_000;
/** Minimum retry delay, up to doubled by jitter. */
const RETRY_AFTER_MS = 1_000;

const createOverloaded = (): Problem =>
  new Problem("overloaded", "Too many changes are waiting. Try again.", {
    retryAfterMs: Math.round(RETRY_AFTER_MS * (1 + Math.random())),
  });

type Waiting = { begin(): void; fail(error: unknown): void };

/** A semaphore with a first-in, first-out queue. */
export interface Semaphore {
  /**
   * Runs `work` when a slot is free. @throws Problem `overloaded` when too many wait, or for too long; whatever `work`
   * throws.
   */
  run<T>(work: () => Promise<T>): Promise<T>;
  isIdle(): boolean;
  waiting(): number;
}

type SemaphoreOptions = {
  waitingMax?: number;
  /** Called with the time spent waiting for a slot. */
  onWait?: ((waitMs: number) => void) | undefined;
};

export function createSemaphore(
  count: number,
  { waitingMax = Number.POSITIVE_INFINITY, onWait }: SemaphoreOptions = {},
): Semaphore {
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

type Entry = { semaphore: Semaphore; wasLocked: boolean };

/** Runs work with the same key one after the other, in order. */
export interface KeyedQueue {
  /**
   * @param work receives whether the work it waited for met a lock. It may have been the lock of another row, so `work`
   * still has to try, but briefly.
   * @param isLock whether an error means a lock.
   * @throws Problem `overloaded`; whatever `work` throws.
   */
  run<T>(key: string, work: (wasLocked: boolean) => Promise<T>, isLock: (error: unknown) => boolean): Promise<T>;
}

/** @param waitingMax the limit on waiting work per key. */
export function createKeyedQueue(waitingMax: number): KeyedQueue {
  const entries = new Map<string, Entry>();

  return {
    async run(key, work, isLock) {
      const entry = entries.get(key) ?? { semaphore: createSemaphore(1, { waitingMax }), wasLocked: false };
      entries.set(key, entry);
      try {
        return await entry.semaphore.run(async () => {
          try {
            const result = await work(entry.wasLocked);
            entry.wasLocked = false;
            return result;
          } catch (error) {
            entry.wasLocked = isLock(error);
            throw error;
          }
        });
      } finally {
        if (entry.semaphore.isIdle()) entries.delete(key);
      }
    },
  };
}
