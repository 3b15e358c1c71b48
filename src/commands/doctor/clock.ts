import type { DoctorCheck } from "./check.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";

/** The time of another machine, compared with the clock here. */
export type ClockReading = {
  source: string;
  /** How far the clock here is ahead of the other one. */
  aheadMs: number;
  /** Up to how much the comparison may be wrong: the time that the request took, and the resolution. */
  errorMs: number;
};

/** Timestamps of webhooks and tokens tolerate this much. */
const WARNING_MS = 5_000;
const PROBLEM_MS = 30_000;
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

/** What the readings say about the clock here. If only one source differs from it, that source's clock may be wrong. */
export function judgeClock(readings: readonly ClockReading[]): Finding[] {
  if (readings.length === 0) return [skipped("No other clock was reached to compare the clock with.")];
  const findings = readings.flatMap(({ source, aheadMs, errorMs }) => {
    const certainMs = Math.abs(aheadMs) - errorMs;
    if (certainMs <= WARNING_MS) return [];
    const difference = `${Math.round(Math.abs(aheadMs) / 1_000)} s ${aheadMs > 0 ? "ahead of" : "behind"}`;
    const found = `The clock of this machine is ${difference} that of ${source}`;
    const remedy = "synchronize both with NTP (timedatectl set-ntp true): tokens, webhooks and TLS depend on the time";
    return [(certainMs > PROBLEM_MS ? problem : warning)(`${found}; ${remedy}.`)];
  });
  if (findings.length > 0) return findings;
  return [ok(`The clock agrees with ${readings.map(({ source }) => source).join(", ")}.`)];
}

/** Runs after the checks that reach other machines. */
export const clockCheck: DoctorCheck = { name: "clock", find: ({ clockReadings }) => judgeClock(clockReadings) };
