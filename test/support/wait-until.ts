const POLL_MS = 5;

/** Waits until it is so. @throws after `waitMs`, far more than it takes. */
export async function waitUntil(isSo: () => boolean | Promise<boolean>, waitMs = 20_000): Promise<void> {
  const endsAtMs = performance.now() + waitMs;
  while (!(await isSo())) {
    if (performance.now() > endsAtMs) throw new Error(`It was not so within ${waitMs} ms: ${isSo}`);
    await Bun.sleep(POLL_MS);
  }
}
