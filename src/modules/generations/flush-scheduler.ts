/** An answer with text waiting to be pushed. */
type Waiting = { flush(): void };

/** Answers flushed per tick, before other work runs. */
export const FLUSHED_PER_TICK_MAX = 100;

/**
 * Flushes answers together with one shared timer: with a timer each, the process would wake up for every push, which costs
 * more than the push.
 * @param findMs returns how long texts are batched, in milliseconds.
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
    /** Schedules `answer` for the next flush. */
    wait(answer: Waiting): void {
      waiting.add(answer);
      if (isDue) return;
      isDue = true;
      setTimeout(flushAll, findMs());
    },
    /** Called when it was flushed separately. */
    forget(answer: Waiting): void {
      waiting.delete(answer);
    },
  };
}

export type FlushScheduler = ReturnType<typeof createFlushScheduler>;
