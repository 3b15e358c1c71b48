/** Repeats what does a bounded part of the work, until there is nothing left or it is stopped. @returns the sum. */
export async function repeatUntilDone(doBatch: () => Promise<number>, signal: AbortSignal): Promise<number> {
  let total = 0;
  while (!signal.aborted) {
    const count = await doBatch();
    if (count === 0) break;
    total += count;
  }
  return total;
}

const LOOK_MS_MAX = 250;

/** Looks until `isThere` says no, at most for `waitMs`. */
export async function waitUntilGone(isThere: () => Promise<boolean>, waitMs: number): Promise<void> {
  const endsAtMs = performance.now() + waitMs;
  for (let pauseMs = 5; performance.now() < endsAtMs; pauseMs = Math.min(2 * pauseMs, LOOK_MS_MAX)) {
    if (!(await isThere())) return;
    await Bun.sleep(pauseMs);
  }
}
