/** Repeats a bounded batch of work until nothing is left or the signal aborts. @returns the sum. */
export async function repeatUntilDone(doBatch: () => Promise<number>, signal: AbortSignal): Promise<number> {
  let total = 0;
  while (!signal.aborted) {
    const count = await doBatch();
    if (count === 0) break;
    total += count;
  }
  return total;
}

const POLL_MS_MAX = 250;

/** Polls until `isThere` returns false, for at most `waitMs`. */
export async function waitUntilDeleted(isThere: () => Promise<boolean>, waitMs: number): Promise<void> {
  const endsAtMs = performance.now() + waitMs;
  for (let pauseMs = 5; performance.now() < endsAtMs; pauseMs = Math.min(2 * pauseMs, POLL_MS_MAX)) {
    if (!(await isThere())) return;
    await Bun.sleep(pauseMs);
  }
}
