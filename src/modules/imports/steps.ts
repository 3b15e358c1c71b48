/** Steps between two yields; they take well below a millisecond. */
const STEPS = 100;

/** Long work that yields regularly, so that it doesn't delay requests. */
export type Steps<T> = Generator<void, T>;

/** Counts small steps. @returns a function to call after each step; it returns true when it is time to yield. */
export function createStepCounter(): () => boolean {
  let steps = 0;
  return () => {
    steps += 1;
    return steps % STEPS === 0;
  };
}

/** Runs all steps without pauses. */
export function runSteps<T>(work: Steps<T>): T {
  for (;;) {
    const next = work.next();
    if (next.done) return next.value;
  }
}
