import { asList, type Fields } from "./fields.ts";

/** Maximum delay that is returned. Longer delays are probably mistakes. */
const RETRY_AFTER_MS_MAX = 86_400_000;

const capDelay = (milliseconds: number, delayMsMax = RETRY_AFTER_MS_MAX): number =>
  Math.min(Math.ceil(milliseconds), delayMsMax);

/**
 * Parses the delay in `Retry-After` (seconds or an HTTP date) or OpenAI's `retry-after-ms`. Returns milliseconds, or null if
 * there is no valid delay.
 */
export function parseRetryAfter(
  headers: Headers | null,
  nowMs: number,
  delayMsMax: number = RETRY_AFTER_MS_MAX,
): number | null {
  const milliseconds = Number.parseFloat(headers?.get("retry-after-ms") ?? "");
  if (milliseconds >= 0) return capDelay(milliseconds, delayMsMax);
  const value = headers?.get("retry-after")?.trim();
  if (!value) return null;
  if (/^\d+(\.\d+)?$/.test(value)) return capDelay(Number(value) * 1000, delayMsMax);
  // HTTP dates start with a weekday. `Date.parse` would accept any number as a year.
  const dateMs = /^[A-Za-z]/.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(dateMs) ? null : capDelay(Math.max(0, dateMs - nowMs), delayMsMax);
}

/** Parses the delay in an error body: `retry_after_ms`, `retry_after` in seconds, or Google's `retryDelay` ("6s"). */
export function parseBodyRetryAfter(error: Fields): number | null {
  const milliseconds = parseDuration(error.retry_after_ms);
  if (milliseconds !== null) return capDelay(milliseconds);
  const delays = asList(error.details).map((detail) => (detail as Fields | null)?.retryDelay);
  for (const value of [error.retry_after, ...delays]) {
    const seconds = parseDuration(value);
    if (seconds !== null) return capDelay(seconds * 1000);
  }
  return null;
}

/** Parses a non-negative number, which may be a string with an optional `s` at its end. */
function parseDuration(value: unknown): number | null {
  if (typeof value === "number") return Number.isFinite(value) && value >= 0 ? value : null;
  const digits = typeof value === "string" ? /^(\d{1,12}(?:\.\d{1,9})?)s?$/.exec(value.trim())?.[1] : undefined;
  return digits === undefined ? null : Number(digits);
}
