/** An answer with text waiting to be pushed. */
type Flushable = { flush(): void };

/** Maximum answers flushed per tick, before other work runs. */
export const FLUSHED_PER_TICK_MAX = 100;

/**
 * Flushes answers together with one shared timer. With a timer for each answer, the process would wake up for every push,
 * which costs more than the push itself.
 * @param getIntervalMs returns how long texts are batched, in milliseconds.
 */
export function createFlushScheduler(getIntervalMs: () => number) {
  const waiting = new Set<Flushable>();
  let isDue = false;

  function flushAll(): void {
    try {
      let remaining = FLUSHED_PER_TICK_MAX;
      for (const answer of waiting) {
        waiting.delete(answer);
        answer.flush();
        remaining -= 1;
        if (remaining === 0) break;
      }
    } finally {
      isDue = waiting.size > 0;
      if (isDue) setTimeout(flushAll, 0);
    }
  }

  return {
    ms: getIntervalMs,
    /** Schedules `answer` for the next flush. */
    wait(answer: Flushable): void {
      waiting.add(answer);
      if (isDue) return;
      isDue = true;
      setTimeout(flushAll, getIntervalMs());
    },
    /** Removes an answer that was flushed separately. */
    forget(answer: Flushable): void {
      waiting.delete(answer);
    },
  };
}

export type FlushScheduler = ReturnType<typeof createFlushScheduler>;
