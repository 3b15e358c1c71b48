const PROBE_INTERVAL_MS = 500;

/**
 * Starts measuring how late a timer fires, twice a second.
 * @param observe receives the delay in seconds.
 * @returns a function that stops measuring.
 */
export function watchEventLoopLag(observe: (lagS: number) => void): () => void {
  let dueAtMs = performance.now() + PROBE_INTERVAL_MS;
  const timer = setInterval(() => {
    const nowMs = performance.now();
    observe(Math.max(0, nowMs - dueAtMs) / 1000);
    dueAtMs = nowMs + PROBE_INTERVAL_MS;
  }, PROBE_INTERVAL_MS);
  timer.unref();
  return () => clearInterval(timer);
}
