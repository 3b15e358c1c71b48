/**
 * Runs `work` and settles after a multiple of `stepMs`, even if it throws, to hide how long it took.
 */
export async function padDuration<T>(stepMs: number, work: () => Promise<T>): Promise<T> {
  const startedAtMs = performance.now();
  try {
    return await work();
  } finally {
    await Bun.sleep(stepMs - ((performance.now() - startedAtMs) % stepMs));
  }
}
