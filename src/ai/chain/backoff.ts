/** The first retry waits half of this on average. The delay doubles with each retry, up to BACKOFF_MAX_MS. */
export const BACKOFF_BASE_MS = 250;
const BACKOFF_MAX_MS = 8_000;

/** The longest `Retry-After` to wait for; beyond it, the next model is tried immediately. */
export const RETRY_AFTER_WAIT_MAX_MS = 10_000;

/** Spreads out clients that received the same `Retry-After`. */
const RETRY_AFTER_JITTER_MS = 250;

/**
 * Delay before the retry after `failures` failures (1 and up): exponential backoff with full jitter, never shorter than the
 * provider's `Retry-After`.
 */
export function calculateDelayMs(failures: number, retryAfterMs: number | null, baseMs = BACKOFF_BASE_MS): number {
  const jittered = Math.random() * Math.min(BACKOFF_MAX_MS, baseMs * 2 ** (failures - 1));
  if (retryAfterMs === null) return jittered;
  return Math.max(jittered, retryAfterMs + Math.random() * Math.min(RETRY_AFTER_JITTER_MS, baseMs));
}

/** Waits, or returns early if the signal aborts. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (ms <= 0 || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const wake = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", wake);
      resolve();
    };
    const timer = setTimeout(wake, ms);
    signal.addEventListener("abort", wake);
  });
}
