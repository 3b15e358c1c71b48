import type { DoctorCheck } from "./check.ts";
import type { ClockReading } from "./clock-reading.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";

/** Timestamps of webhooks and tokens tolerate this much. */
const WARNING_MS = 5_000;
const PROBLEM_MS = 30_000;
/** What the readings say about the clock here. If only one source differs from it, that source's clock may be wrong. */
export function judgeClock(readings: readonly ClockReading[]): Finding[] {
  if (readings.length === 0) return [skipped("No other clock was reached to compare the clock with.")];
  const sources = selectExact(readings);
  const findings = sources.flatMap(({ source, aheadMs, errorMs }) => {
    const certainMs = Math.abs(aheadMs) - errorMs;
    if (certainMs <= WARNING_MS) return [];
    const difference = `${Math.round(Math.abs(aheadMs) / 1_000)} s ${aheadMs > 0 ? "ahead of" : "behind"}`;
    const found = `The clock of this machine is ${difference} that of ${source}`;
    const remedy = "synchronize both with NTP (timedatectl set-ntp true): tokens, webhooks and TLS depend on the time";
    return [(certainMs > PROBLEM_MS ? problem : warning)(`${found}; ${remedy}.`)];
  });
  if (findings.length > 0) return findings;
  return [ok(`The clock agrees with ${sources.map(({ source }) => source).join(", ")}.`)];
}

/** The most exact reading of each source. */
function selectExact(readings: readonly ClockReading[]): ClockReading[] {
  const bySource = new Map<string, ClockReading>();
  for (const reading of readings) {
    const known = bySource.get(reading.source);
    if (!known || reading.errorMs < known.errorMs) bySource.set(reading.source, reading);
  }
  return [...bySource.values()];
}

/** Runs after the checks that reach other machines. */
export const clockCheck: DoctorCheck = { name: "clock", find: ({ clockReadings }) => judgeClock(clockReadings) };
