/** Maximum duration of work between two pauses. */
const WORK_MS_MAX = 3;
/** Duration of a pause, in which the event loop can process requests. */
const PAUSE_MS = 1;

/** Limits how long work blocks the event loop. Returns a function to call and await after each small step. */
export function createPauser(): () => Promise<void> | undefined {
  let startedAtMs = performance.now();
  return () => {
    if (performance.now() - startedAtMs < WORK_MS_MAX) return undefined;
    return Bun.sleep(PAUSE_MS).then(() => {
      startedAtMs = performance.now();
    });
  };
}
