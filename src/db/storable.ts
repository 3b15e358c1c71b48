/** The largest number of an `integer` column. */
const INTEGER_MAX = 2 ** 31 - 1;
/** The largest cost of an answer in US dollars that a `numeric(14, 8)` column stores. */
const USD_MAX = 999_999;

/** Limits a token count to what a column can store. Sums over many attempts may be larger. */
export const fitCount = (count: number): number =>
  Number.isFinite(count) ? Math.min(INTEGER_MAX, Math.max(0, Math.round(count))) : 0;

/** Limits an amount of money to what a column can store; null if it is invalid. */
export const fitUsd = (usd: number | null): number | null => (usd !== null && usd >= 0 ? Math.min(USD_MAX, usd) : null);

const REPLACED = "\\ufffd";

/** Removes NULs and replaces lone surrogates, which Postgres can't store in text. */
export const fitText = (text: string): string => text.replaceAll("\0", "").toWellFormed();

/** Replaces NULs and lone surrogates in strings and names, which Postgres can't store in JSON. */
export const fitJson = (value: unknown): unknown => {
  const text = JSON.stringify(value);
  // JSON.stringify escapes both, and no other escape sequence begins like theirs.
  const fitted = text.replace(/\\(?:u0000|ud[89a-f][0-9a-f]{2}|.)/g, (code) => (code.length > 2 ? REPLACED : code));
  return fitted === text ? value : JSON.parse(fitted);
};

/** Limits all numbers of an object to what a column can store. */
export const fitCounts = <Counts extends Record<keyof Counts, number>>(counts: Counts): Counts =>
  Object.fromEntries(Object.entries<number>(counts).map(([name, count]) => [name, fitCount(count)])) as Counts;
