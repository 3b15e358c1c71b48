/** Repeats a bounded batch of work until it returns 0 or the signal is aborted. @returns the sum of the batches' results. */
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
  const endsAtMs = performance.now() + waitMs;
  for (let pauseMs = 5; performance.now() < endsAtMs; pauseMs = Math.min(2 * pauseMs, POLL_MS_MAX)) {
    if (!(await exists())) return;
    await Bun.sleep(pauseMs);
  }
}
