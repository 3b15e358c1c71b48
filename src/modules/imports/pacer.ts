/** Milliseconds of work per slice, and of the pause after it: requests take priority. */
const WORK_MS = 3;
const REST_MS = 1;

/** For long work on the event loop. @returns a function: call it after each small step, and await its result. */
export function createPacer(): () => Promise<void> | undefined {
  let startedAtMs = performance.now();
  return () => {
    if (performance.now() - startedAtMs < WORK_MS) return undefined;
    return Bun.sleep(REST_MS).then(() => {
      startedAtMs = performance.now();
    });
  };
}
