/** Milliseconds of work per slice, and of the pause after it, so that requests take priority. */
const WORK_MS = 3;
const REST_MS = 1;

/** Paces long work on the event loop. @returns a function to call and await after each small step. */
export function createPacer(): () => Promise<void> | undefined {
  let startedAtMs = performance.now();
  return () => {
    if (performance.now() - startedAtMs < WORK_MS) return undefined;
    return Bun.sleep(REST_MS).then(() => {
      startedAtMs = performance.now();
    });
  };
}
