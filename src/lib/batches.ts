/** Calls `doBatch` until it returns 0 or the signal aborts. Returns the sum of the results. */
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

/** Polls until `exists` returns false, for at most `waitMs`. */
export async function waitUntilDeleted(exists: () => Promise<boolean>, waitMs: number): Promise<void> {
  const deadlineMs = performance.now() + waitMs;
  for (let delayMs = 5; performance.now() < deadlineMs; delayMs = Math.min(2 * delayMs, POLL_MS_MAX)) {
    if (!(await exists())) return;
    await Bun.sleep(delayMs);
  }
}
