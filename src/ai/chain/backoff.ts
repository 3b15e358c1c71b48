/** Maximum delay before the first retry. It doubles with each retry, up to BACKOFF_MAX_MS. */
export const BACKOFF_BASE_MS = 250;
const BACKOFF_MAX_MS = 8_000;

/** Maximum `Retry-After` to wait for. If the provider's is longer, the next model is tried immediately. */
export const RETRY_AFTER_WAIT_MAX_MS = 10_000;

/** Maximum jitter added to a `Retry-After`, because other clients may have received the same value. */
const RETRY_AFTER_JITTER_MS = 250;

/**
 * Returns the delay before the next retry: exponential backoff with full jitter, never shorter than the provider's
 * `Retry-After`.
 * @param failures at least 1.
 */
export function calculateDelayMs(failures: number, retryAfterMs: number | null, baseMs = BACKOFF_BASE_MS): number {
  const jittered = Math.random() * Math.min(BACKOFF_MAX_MS, baseMs * 2 ** (failures - 1));
  if (retryAfterMs === null) return jittered;
  return Math.max(jittered, retryAfterMs + Math.random() * Math.min(RETRY_AFTER_JITTER_MS, baseMs));
}

/** Resolves after `ms`, or when the signal aborts. */
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
