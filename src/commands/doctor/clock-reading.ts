/** The time of another machine, compared with the clock here. */
export type ClockReading = {
  source: string;
  /** How far the clock here is ahead of the other one. */
  aheadMs: number;
  /** Up to how much the comparison may be wrong: the time that the request took, and the resolution. */
  errorMs: number;
};

/** A `Date` header has whole seconds. */
const DATE_RESOLUTION_MS = 1_000;

/** Compares the clock here with the time that a response contains. The other clock was read between both times. */
export function compareClocks(
  source: string,
  theirMs: number,
  { sentAtMs, receivedAtMs, resolutionMs = 0 }: { sentAtMs: number; receivedAtMs: number; resolutionMs?: number },
): ClockReading {
  const aheadMs = (sentAtMs + receivedAtMs) / 2 - (theirMs + resolutionMs / 2);
  return { source, aheadMs, errorMs: (receivedAtMs - sentAtMs + resolutionMs) / 2 };
}

/** The same for a response's `Date` header; null if it has none. */
export function readDateHeader(source: string, headers: Headers, sentAtMs: number): ClockReading | null {
  const theirMs = Date.parse(headers.get("date") ?? "");
  if (Number.isNaN(theirMs)) return null;
  return compareClocks(source, theirMs, { sentAtMs, receivedAtMs: Date.now(), resolutionMs: DATE_RESOLUTION_MS });
}
