import { Problem } from "../lib/problem.ts";

/** The maximum time that work waits for a slot. */
const WAIT_TIMEOUT_MS = 10_000;
/** The minimum retry delay. Jitter may double it. */
const RETRY_AFTER_MS = 1_000;

const createOverloadedProblem = (): Problem =>
  new Problem("overloaded", "Too many changes are waiting. Try again.", {
    retryAfterMs: Math.round(RETRY_AFTER_MS * (1 + Math.random())),
  });

type QueuedWork = { begin(): void; fail(error: unknown): void };

/** A semaphore with a first-in, first-out queue. */
export interface Semaphore {
  /**
   * Runs `work` as soon as a slot is free.
   * @throws Problem `overloaded` if the queue is full or `work` has waited too long, and the errors of `work`.
   */
  run<T>(work: () => Promise<T>): Promise<T>;
  isIdle(): boolean;
  countWaiting(): number;
}

type SemaphoreOptions = {
  waitingMax?: number;
  /** Called with the time that was spent waiting for a slot. */
  onWait?: ((waitMs: number) => void) | undefined;
};

export function createSemaphore(
  slotCount: number,
  { waitingMax = Number.POSITIVE_INFINITY, onWait }: SemaphoreOptions = {},
): Semaphore {
  let freeSlots = slotCount;
  const waiting = new Set<QueuedWork>();

  function acquire(): Promise<void> {
    if (freeSlots > 0) {
      freeSlots -= 1;
      return Promise.resolve();
    }
    if (waiting.size >= waitingMax) throw createOverloadedProblem();
    return new Promise((resolve, reject) => {
      const dequeue = () => {
        clearTimeout(timer);
        waiting.delete(entry);
      };
      const queuedAtMs = performance.now();
      const entry: QueuedWork = {
        begin() {
          dequeue();
          onWait?.(performance.now() - queuedAtMs);
          resolve();
        },
        fail(error) {
          dequeue();
          reject(error);
        },
      };
      const timer = setTimeout(() => entry.fail(createOverloadedProblem()), WAIT_TIMEOUT_MS);
      waiting.add(entry);
    });
  }

  function release(): void {
    const [next] = waiting;
    if (next) next.begin();
    else freeSlots += 1;
  }

  return {
    async run(work) {
      await acquire();
      try {
        return await work();
      } finally {
        release();
      }
    },

    isIdle: () => freeSlots === slotCount,
    countWaiting: () => waiting.size,
  };
}

type Entry = { semaphore: Semaphore; wasLocked: boolean };

/** A queue in which tasks with the same key run one after another, in order. */
export interface KeyedQueue {
  /**
   * Runs `work` after all earlier tasks with the same key.
   * @param work receives whether the previous task failed because of a row lock. Even then, `work` must try to acquire its locks,
   * because it might not need the same row. `work` must use a short lock timeout.
   * @param isLockError returns whether an error was caused by a lock.
   * @throws Problem `overloaded`, and the errors of `work`.
   */
  run<T>(key: string, work: (wasLocked: boolean) => Promise<T>, isLockError: (error: unknown) => boolean): Promise<T>;
}

/** Creates a queue with one slot per key. @param waitingMax the maximum number of waiting tasks per key. */
export function createKeyedQueue(waitingMax: number): KeyedQueue {
  const entries = new Map<string, Entry>();

  return {
    async run(key, work, isLockError) {
      const entry = entries.get(key) ?? { semaphore: createSemaphore(1, { waitingMax }), wasLocked: false };
      entries.set(key, entry);
      try {
        return await entry.semaphore.run(async () => {
          try {
            const result = await work(entry.wasLocked);
            entry.wasLocked = false;
            return result;
          } catch (error) {
            entry.wasLocked = isLockError(error);
            throw error;
          }
        });
      } finally {
        if (entry.semaphore.isIdle()) entries.delete(key);
      }
    },
  };
}
