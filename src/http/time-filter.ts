import { createInvalidProblem } from "../lib/problem.ts";

/** Matches years that both Postgres and JavaScript support. */
const supportedYear = /^(?!0000)\d{4}-/;

/** Parses the time in the query parameter `name`. @throws Problem `invalid`. */
export function parseTimeFilter(text: string | undefined, name: string): Date | undefined {
  if (text === undefined) return undefined;
  const time = new Date(text);
  if (
    isExistingDate(text.slice(0, DATE_CHARS)) &&
    supportedYear.test(text) &&
    !Number.isNaN(time.getTime()) &&
    supportedYear.test(time.toISOString())
  )
    return time;
  throw createInvalidProblem(`#/query/${name}`, `${name} must be an RFC 3339 time, such as 2026-01-31T12:00:00Z.`);
}

const DATE_CHARS = 10;

/** Whether a date exists. JavaScript accepts February 30 as March 2. */
function isExistingDate(date: string): boolean {
  const day = new Date(`${date}T00:00:00Z`);
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(date);
}
