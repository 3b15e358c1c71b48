const POLL_MS = 5;

/** Waits until a condition holds. @throws after `waitMs`, far more than it should take. */
export async function waitUntil(condition: () => boolean | Promise<boolean>, waitMs = 20_000): Promise<void> {
  const endsAtMs = performance.now() + waitMs;
  while (!(await condition())) {
    if (performance.now() > endsAtMs) throw new Error(`The condition did not hold within ${waitMs} ms: ${condition}`);
    await Bun.sleep(POLL_MS);
  }
}
