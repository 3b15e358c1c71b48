const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

/** The delay before each attempt, from the end of the previous one, as recommended by Standard Webhooks 1.0.0. */
const DELAYS_MS = [
  0,
  5 * SECOND_MS,
  5 * MINUTE_MS,
  30 * MINUTE_MS,
  2 * HOUR_MS,
  5 * HOUR_MS,
  10 * HOUR_MS,
  14 * HOUR_MS,
  20 * HOUR_MS,
  24 * HOUR_MS,
];
/** Each delay is extended by up to this fraction, so that simultaneous failures aren't retried simultaneously. */
const JITTER_FRACTION = 0.1;

/**
 * Returns the delay after a failed attempt, in milliseconds. Returns null after the last attempt.
 * @param attempts the number of previous attempts.
 * @param retryAfterMs the minimum delay that the receiver requested.
 */
export function findRetryDelayMs(attempts: number, retryAfterMs: number | null, random = Math.random()): number | null {
  const delayMs = DELAYS_MS[attempts];
  if (delayMs === undefined) return null;
  return Math.max(delayMs, retryAfterMs ?? 0) * (1 + JITTER_FRACTION * random);
}
