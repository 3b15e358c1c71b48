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
