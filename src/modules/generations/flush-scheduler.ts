/** An answer whose text is batched. */
type Flushable = { flush(): void };

/** Maximum number of answers flushed before other work runs. */
export const FLUSHES_PER_TICK_MAX = 100;

/**
 * Creates a scheduler that flushes all answers with one timer. With a timer for each answer, the process would wake up for every push,
 * which costs more than the push itself.
 */
export function createFlushScheduler(getIntervalMs: () => number) {
  const waitingAnswers = new Set<Flushable>();
  let isScheduled = false;

  function flushAll(): void {
    try {
      let remaining = FLUSHES_PER_TICK_MAX;
      for (const answer of waitingAnswers) {
        waitingAnswers.delete(answer);
        answer.flush();
        remaining -= 1;
        if (remaining === 0) break;
      }
    } finally {
      isScheduled = waitingAnswers.size > 0;
      if (isScheduled) setTimeout(flushAll, 0);
    }
  }

  return {
    getIntervalMs,
    /** Schedules `answer` for the next flush. */
    schedule(answer: Flushable): void {
      waitingAnswers.add(answer);
      if (isScheduled) return;
      isScheduled = true;
      setTimeout(flushAll, getIntervalMs());
    },
    /** Removes an answer that was flushed separately. */
    cancel(answer: Flushable): void {
      waitingAnswers.delete(answer);
    },
  };
}

export type FlushScheduler = ReturnType<typeof createFlushScheduler>;
