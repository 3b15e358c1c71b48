import type { DoctorCheck } from "./check.ts";
import type { ClockReading } from "./clock-reading.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";

/** Minimum clock differences that are reported as a warning and as a problem. */
const WARNING_MS = 5_000;
const PROBLEM_MS = 30_000;

/** Reports the sources whose clocks differ from this machine's. */
export function checkClock(readings: readonly ClockReading[]): Finding[] {
  if (readings.length === 0) return [skipped("No other clock could be reached for a comparison.")];
  const sources = selectMostPrecise(readings);
  const findings = sources.flatMap(({ source, aheadMs, errorMs }) => {
    const certainMs = Math.abs(aheadMs) - errorMs;
    if (certainMs <= WARNING_MS) return [];
    const difference = `${Math.round(Math.abs(aheadMs) / 1_000)} s ${aheadMs > 0 ? "ahead of" : "behind"}`;
    const clockDifference = `This machine's clock is ${difference} the clock of ${source}`;
    const remedy = "synchronize both with NTP (timedatectl set-ntp true): tokens, webhooks and TLS depend on the time";
    return [(certainMs > PROBLEM_MS ? problem : warning)(`${clockDifference}; ${remedy}.`)];
  });
  if (findings.length > 0) return findings;
  return [ok(`The clock agrees with ${sources.map(({ source }) => source).join(", ")}.`)];
}

/** Selects the most precise reading from each source. */
function selectMostPrecise(readings: readonly ClockReading[]): ClockReading[] {
  const bySource = new Map<string, ClockReading>();
  for (const reading of readings) {
    const best = bySource.get(reading.source);
    if (!best || reading.errorMs < best.errorMs) bySource.set(reading.source, reading);
  }
  return [...bySource.values()];
}

/** Runs after the checks that reach other machines. */
export const clockCheck: DoctorCheck = { name: "clock", run: ({ clockReadings }) => checkClock(clockReadings) };
