/**
 * Runs `work`, but settles only after a multiple of `stepMs`, to hide how long `work` took until it returned or threw.
 */
export async function padDuration<T>(stepMs: number, work: () => Promise<T>): Promise<T> {
  const startedAtMs = performance.now();
  try {
    return await work();
  } finally {
    await Bun.sleep(stepMs - ((performance.now() - startedAtMs) % stepMs));
  }
}
