import { parseTimeFilter } from "../../http/time-filter.ts";
import { createInvalidProblem } from "../../lib/problem.ts";
import type { Interval, TimeRange } from "./model.ts";

const DAY_MS = 24 * 60 * 60_000;
const INTERVAL_MS: Record<Interval, number> = { hour: 60 * 60_000, day: DAY_MS };
const DEFAULT_RANGE_DAYS = 7;
/** The earliest time that both Postgres and JavaScript support. */
const TIME_MS_MIN = Date.parse("0001-01-01T00:00:00Z");
/** The maximum number of parts (hours or days) in a series. */
const SERIES_PARTS_MAX = 2_000;

const timeZonePattern = /^[A-Za-z][\w+\-/]*$/;
/** Equivalents of zones that Postgres would interpret as abbreviations, which have no daylight saving time. */
const equivalentZones: Readonly<Record<string, string>> = {
  CET: "Europe/Brussels",
  MET: "Europe/Brussels",
  EET: "Europe/Athens",
  WET: "Europe/Lisbon",
};

type TimeRangeRequest = { from?: string; to?: string; time_zone?: string };

/** Parses the time range. @throws Problem `invalid` for an unknown time zone, a time out of range, or `from` after `to`. */
export function parseTimeRange(query: TimeRangeRequest, now = new Date()): TimeRange {
  const to = parseTimeFilter(query.to, "to") ?? now;
  const from =
    parseTimeFilter(query.from, "from") ?? new Date(Math.max(TIME_MS_MIN, to.getTime() - DEFAULT_RANGE_DAYS * DAY_MS));
  if (from > to)
    throw createInvalidProblem(
      "#/query/from",
      "from must not be after to. If to is absent, from must not be in the future.",
    );
  return { from, to, timeZone: parseTimeZone(query.time_zone) };
}

function parseTimeZone(name = "UTC"): string {
  if (!timeZonePattern.test(name) || !isKnownTimeZone(name)) throw createUnknownTimeZoneProblem();
  return equivalentZones[name.toUpperCase()] ?? name;
}

/** Creates the error for a time zone that JavaScript or Postgres doesn't know. */
export const createUnknownTimeZoneProblem = () =>
  createInvalidProblem("#/query/time_zone", "time_zone must be the IANA name of a time zone, such as Europe/Berlin.");

function isKnownTimeZone(timeZone: string): boolean {
  try {
    return new Intl.DateTimeFormat("en", { timeZone }).format(0) !== "";
  } catch {
    return false;
  }
}

/** Checks the length of a series. @throws Problem `invalid` if it would have too many parts. */
export function checkSeriesLength({ from, to }: TimeRange, interval: Interval): void {
  const parts = (to.getTime() - from.getTime()) / INTERVAL_MS[interval];
  if (parts <= SERIES_PARTS_MAX) return;
  const remedy =
    interval === "hour" ? "Request a shorter time range, or interval=day." : "Request a shorter time range.";
  throw createInvalidProblem(
    "#/query/interval",
    `The series would have more than ${SERIES_PARTS_MAX} parts. ${remedy}`,
  );
}
