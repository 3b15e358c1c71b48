import { type Fields, readList } from "./fields.ts";

/** A longer pause is a mistake, or means never. */
const RETRY_AFTER_MS_MAX = 86_400_000;

const bound = (milliseconds: number, msMax = RETRY_AFTER_MS_MAX): number => Math.min(Math.ceil(milliseconds), msMax);

/**
 * Parses `Retry-After` (seconds or an HTTP date) and OpenAI's `retry-after-ms`, in milliseconds from `nowMs`.
 * @param msMax limits the pause.
 */
export function parseRetryAfter(
  headers: Headers | null,
  nowMs: number,
  msMax: number = RETRY_AFTER_MS_MAX,
): number | null {
  const milliseconds = Number.parseFloat(headers?.get("retry-after-ms") ?? "");
  if (milliseconds >= 0) return bound(milliseconds, msMax);
  const value = headers?.get("retry-after")?.trim();
  if (!value) return null;
  if (/^\d+(\.\d+)?$/.test(value)) return bound(Number(value) * 1000, msMax);
  // A date starts with its weekday; the parser would read any number as a year.
  const at = /^[A-Za-z]/.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(at) ? null : bound(Math.max(0, at - nowMs), msMax);
}

/** The same for an error body: `retry_after_ms`, `retry_after` in seconds, or Google's `retryDelay` ("6s"). */
export function readRetryAfter(error: Fields): number | null {
  const milliseconds = readDuration(error.retry_after_ms);
  if (milliseconds !== null) return bound(milliseconds);
  const delays = readList(error.details).map((detail) => (detail as Fields | null)?.retryDelay);
  for (const value of [error.retry_after, ...delays]) {
    const seconds = readDuration(value);
    if (seconds !== null) return bound(seconds * 1000);
  }
  return null;
}

/** A non-negative number, also as a text, with or without the unit of seconds. */
function readDuration(value: unknown): number | null {
  if (typeof value === "number") return Number.isFinite(value) && value >= 0 ? value : null;
  const digits = typeof value === "string" ? /^(\d{1,12}(?:\.\d{1,9})?)s?$/.exec(value.trim())?.[1] : undefined;
  return digits === undefined ? null : Number(digits);
}
