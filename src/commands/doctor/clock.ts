import type { DoctorCheck } from "./check.ts";
import type { ClockReading } from "./clock-reading.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";

/** Minimum clock differences that are reported as a warning and as a problem. */
const WARNING_MS = 5_000;
const PROBLEM_MS = 30_000;

/** Reports the sources whose clocks differ from this machine's. */
export function checkClock(readings: readonly ClockReading[]): Finding[] {
  if (readings.length === 0) return [skipped("No other clock could be reached for comparison.")];
  const preciseReadings = selectMostPrecise(readings);
  const findings = preciseReadings.flatMap(({ source, aheadMs, errorMs }) => {
    const certainMs = Math.abs(aheadMs) - errorMs;
    if (certainMs <= WARNING_MS) return [];
    const difference = `${Math.round(Math.abs(aheadMs) / 1_000)} s ${aheadMs > 0 ? "ahead of" : "behind"}`;
    const clockDifference = `This machine's clock is ${difference} the clock of ${source}`;
    const remedy =
      "synchronize both with NTP (timedatectl set-ntp true): tokens, webhooks and TLS depend on accurate clocks";
    return [(certainMs > PROBLEM_MS ? problem : warning)(`${clockDifference}; ${remedy}.`)];
  });
  if (findings.length > 0) return findings;
  return [ok(`The clock agrees with ${preciseReadings.map(({ source }) => source).join(", ")}.`)];
}

/** Selects the most precise reading from each source. */
function selectMostPrecise(readings: readonly ClockReading[]): ClockReading[] {
  const readingsBySource = new Map<string, ClockReading>();
  for (const reading of readings) {
    const bestReading = readingsBySource.get(reading.source);
    if (!bestReading || reading.errorMs < bestReading.errorMs) readingsBySource.set(reading.source, reading);
  }
  return [...readingsBySource.values()];
}

/** This check runs after the checks that reach other machines, because they add the readings. */
export const clockCheck: DoctorCheck = { name: "clock", run: ({ clockReadings }) => checkClock(clockReadings) };
