/** Steps between two yields: well below a millisecond. */
const STEPS = 100;

/** Long work that gives way now and then: it yields whenever others should get their turn. */
export type Steps<T> = Generator<void, T>;

/** Counts small steps. @returns call it for each; true when it is time to yield. */
export function createStepCounter(): () => boolean {
  let steps = 0;
  return () => {
    steps += 1;
    return steps % STEPS === 0;
  };
}

/** Does all of it at once. */
export function runSteps<T>(work: Steps<T>): T {
  for (;;) {
    const next = work.next();
    if (next.done) return next.value;
  }
}
