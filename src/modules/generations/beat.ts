/** One whose pieces wait. */
type Waiting = { flush(): void };

/** Answers of one beat that are written before other work gets its turn. */
export const BEAT_ANSWERS_MAX = 100;

/**
 * The beat in which answers write what has come in for them: with a timer for each of them the process would wake for
 * every single write, and that costs more than the write itself.
 * @param findMs the time between two beats, in milliseconds.
 */
export function createBeat(findMs: () => number) {
  const waiting = new Set<Waiting>();
  let isDue = false;

  function beat(): void {
    try {
      let left = BEAT_ANSWERS_MAX;
      for (const answer of waiting) {
        waiting.delete(answer);
        answer.flush();
        left -= 1;
        if (left === 0) break;
      }
    } finally {
      isDue = waiting.size > 0;
      if (isDue) setTimeout(beat, 0);
    }
  }

  return {
    ms: findMs,
    /** Has `answer` flushed at the next beat. */
    wait(answer: Waiting): void {
      waiting.add(answer);
      if (isDue) return;
      isDue = true;
      setTimeout(beat, findMs());
    },
    /** It has been flushed otherwise. */
    forget(answer: Waiting): void {
      waiting.delete(answer);
    },
  };
}

export type Beat = ReturnType<typeof createBeat>;
