/** Number of steps between two yields. Together, they take far less than a millisecond. */
const STEPS_PER_YIELD = 100;

/** Work that yields regularly, so that it doesn't block the event loop. */
export type Steps<T> = Generator<void, T>;

/** Returns a function to call after each small step. It returns true when it is time to yield. */
export function createStepCounter(): () => boolean {
  let steps = 0;
  return () => {
    steps += 1;
    return steps % STEPS_PER_YIELD === 0;
  };
}

/** Runs all steps without pauses. */
export function runSteps<T>(work: Steps<T>): T {
  for (;;) {
    const next = work.next();
    if (next.done) return next.value;
  }
}
