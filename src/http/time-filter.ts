import { createInvalid } from "../lib/problem.ts";

/** Years that Postgres and JavaScript both know. */
const timeForm = /^(?!0000)\d{4}-/;

/** Reads a moment that limits a list, of the query parameter `name`. @throws Problem `invalid`. */
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
  throw createInvalid(`#/query/${name}`, `${name} must be a time as in RFC 3339.`);
}

const DATE_CHARS = 10;

/** JavaScript reads February 30 as March 2. */
function isDate(date: string): boolean {
  const day = new Date(`${date}T00:00:00Z`);
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(date);
}
