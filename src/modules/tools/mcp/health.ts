import { BACKOFF_MAX_MS, BACKOFF_MIN_MS } from "./limits.ts";

/** Creates a tracker, which determines when a failing server is retried, with exponential backoff and jitter. */
export function createHealthTracker() {
  let failures = 0;
  let retryAtMs = 0;

  return {
    canRetry: () => performance.now() >= retryAtMs,
    hasFailed: () => failures > 0,
    recordSuccess() {
      failures = 0;
      retryAtMs = 0;
    },
    recordFailure() {
      const delayMs = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** failures);
      failures += 1;
      retryAtMs = performance.now() + delayMs * (0.5 + Math.random() / 2);
    },
  };
}

export type HealthTracker = ReturnType<typeof createHealthTracker>;
