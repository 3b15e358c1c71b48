const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

/** Before each attempt, from the end of the one before (Standard Webhooks 1.0.0). */
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
/** A delay is up to so much longer, so that what failed together is not repeated together. */
const JITTER = 0.1;

/**
 * How long to wait after a failed attempt, in milliseconds; null: it was the last one.
 * @param attempts how many were made.
 * @param retryAfterMs what the receiver asked for; it is never sooner than that.
 */
export function findRetryDelay(attempts: number, retryAfterMs: number | null, random = Math.random()): number | null {
  const delayMs = DELAYS_MS[attempts];
  if (delayMs === undefined) return null;
  return Math.max(delayMs, retryAfterMs ?? 0) * (1 + JITTER * random);
}
