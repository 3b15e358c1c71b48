/** Milliseconds of work at a time, and of rest after it: requests of others come first. */
const WORK_MS = 3;
const REST_MS = 1;

/** For long work on the event loop. @returns call it after each small step, and await what it gives. */
export function createPacer(): () => Promise<void> | undefined {
  let beganAtMs = performance.now();
  return () => {
    if (performance.now() - beganAtMs < WORK_MS) return undefined;
    return Bun.sleep(REST_MS).then(() => {
      beganAtMs = performance.now();
    });
  };
}
