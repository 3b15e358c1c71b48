/** The difference between this machine's clock and the clock of another machine. */
export type ClockReading = {
  source: string;
  /** By how much this machine's clock is ahead; negative if it is behind. */
  aheadMs: number;
  /** The maximum error of `aheadMs`, from the duration of the request and the clock's resolution. */
  errorMs: number;
};

/** A `Date` header has whole seconds. */
const DATE_RESOLUTION_MS = 1_000;

/** Compares this machine's clock with the time in a response, which was read between `sentAtMs` and `receivedAtMs`. */
export function compareClocks(
  source: string,
  otherClockMs: number,
  { sentAtMs, receivedAtMs, resolutionMs = 0 }: { sentAtMs: number; receivedAtMs: number; resolutionMs?: number },
): ClockReading {
  const aheadMs = (sentAtMs + receivedAtMs) / 2 - (otherClockMs + resolutionMs / 2);
  return { source, aheadMs, errorMs: (receivedAtMs - sentAtMs + resolutionMs) / 2 };
}

/** Compares this machine's clock with a response's `Date` header. Returns null if there is none. */
export function compareWithDateHeader(source: string, headers: Headers, sentAtMs: number): ClockReading | null {
  const serverTimeMs = Date.parse(headers.get("date") ?? "");
  if (Number.isNaN(serverTimeMs)) return null;
  return compareClocks(source, serverTimeMs, { sentAtMs, receivedAtMs: Date.now(), resolutionMs: DATE_RESOLUTION_MS });
}
