import { BACKOFF_MAX_MS, BACKOFF_MIN_MS } from "./limits.ts";

/** Determines when a failing server is retried, with exponential backoff and jitter. */
export function createHealth() {
  let failures = 0;
  let retryAtMs = 0;

  return {
    canRetry: () => performance.now() >= retryAtMs,
    hasFailed: () => failures > 0,
    succeed() {
      failures = 0;
      retryAtMs = 0;
    },
    fail() {
      const delayMs = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** failures);
      failures += 1;
      retryAtMs = performance.now() + delayMs * (0.5 + Math.random() / 2);
    },
  };
}

export type Health = ReturnType<typeof createHealth>;
