const POLL_MS = 5;

/** Waits until a condition is true. @throws Error after `waitMs`. */
export async function waitUntil(condition: () => boolean | Promise<boolean>, waitMs = 20_000): Promise<void> {
  const deadlineMs = performance.now() + waitMs;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`Condition not met within ${waitMs} ms: ${condition}`);
    await Bun.sleep(POLL_MS);
  }
}
