import { createInvalid } from "../lib/problem.ts";

/** Years that both Postgres and JavaScript support. */
const timeForm = /^(?!0000)\d{4}-/;

/** Parses the time in the query parameter `name`, which filters a list. @throws Problem `invalid`. */
export function readTimeFilter(text: string | undefined, name: string): Date | undefined {
  if (text === undefined) return undefined;
  const time = new Date(text);
  if (
    isDate(text.slice(0, DATE_CHARS)) &&
    timeForm.test(text) &&
    !Number.isNaN(time.getTime()) &&
    timeForm.test(time.toISOString())
  )
    return time;
  throw createInvalid(`#/query/${name}`, `${name} must be an RFC 3339 time, such as 2026-01-31T12:00:00Z.`);
}

const DATE_CHARS = 10;

/** Rejects dates like February 30, which JavaScript reads as March 2. */
function isDate(date: string): boolean {
  const day = new Date(`${date}T00:00:00Z`);
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(date);
}
