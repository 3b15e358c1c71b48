/** One whose text waits to be pushed. */
type Waiting = { flush(): void };

/** Answers that are flushed in one tick, before other work gets its turn. */
export const FLUSHED_PER_TICK_MAX = 100;

/**
 * Flushes answers together, with one timer for all of them: with a timer for each the process would wake for every single
 * push, and that costs more than the push itself.
 * @param findMs how long texts wait for each other, in milliseconds.
 */
export function createFlushScheduler(findMs: () => number) {
  const waiting = new Set<Waiting>();
  let isDue = false;

  function flushAll(): void {
    try {
      let left = FLUSHED_PER_TICK_MAX;
      for (const answer of waiting) {
        waiting.delete(answer);
        answer.flush();
        left -= 1;
        if (left === 0) break;
      }
    } finally {
      isDue = waiting.size > 0;
      if (isDue) setTimeout(flushAll, 0);
    }
  }

  return {
    ms: findMs,
    /** Has `answer` flushed with the others. */
    wait(answer: Waiting): void {
      waiting.add(answer);
      if (isDue) return;
      isDue = true;
      setTimeout(flushAll, findMs());
    },
    /** It has been flushed otherwise. */
    forget(answer: Waiting): void {
      waiting.delete(answer);
    },
  };
}

export type FlushScheduler = ReturnType<typeof createFlushScheduler>;
