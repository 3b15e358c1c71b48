/**
 * Does `work` and answers after a multiple of `stepMs`, also when it throws: how long it took can't be told any closer.
 */
export async function answerInStep<T>(stepMs: number, work: () => Promise<T>): Promise<T> {
  const startedAtMs = performance.now();
  try {
    return await work();
  } finally {
    await Bun.sleep(stepMs - ((performance.now() - startedAtMs) % stepMs));
  }
}
