/** The largest number of an `integer` column. */
const INTEGER_MAX = 2 ** 31 - 1;
/** The largest cost in US dollars that a `numeric(14, 8)` column can store. */
const USD_MAX = 999_999;

/** Limits a count, such as a number of tokens, to what a column can store. Sums over many attempts may be larger. */
export const fitCount = (count: number): number =>
  Number.isFinite(count) ? Math.min(INTEGER_MAX, Math.max(0, Math.round(count))) : 0;

/** Limits an amount of money to what a column can store. Returns null if it is invalid. */
export const fitUsd = (usd: number | null): number | null => (usd !== null && usd >= 0 ? Math.min(USD_MAX, usd) : null);

const REPLACEMENT_ESCAPE = "\\ufffd";

/** Removes NULs and replaces lone surrogates, which Postgres can't store in text. */
export const toStorableText = (text: string): string => text.replaceAll("\0", "").toWellFormed();

/** Replaces NULs and lone surrogates in strings and property names, which Postgres can't store in JSON. */
export const toStorableJson = (value: unknown): unknown => {
  const text = JSON.stringify(value);
  // JSON.stringify escapes both, and no other escape sequence begins like theirs.
  const fittedText = text.replace(/\\(?:u0000|ud[89a-f][0-9a-f]{2}|.)/g, (code) =>
    code.length > 2 ? REPLACEMENT_ESCAPE : code,
  );
  return fittedText === text ? value : JSON.parse(fittedText);
};

/** Limits all numbers in an object to what a column can store. */
export const fitCounts = <Counts extends Record<keyof Counts, number>>(counts: Counts): Counts =>
  Object.fromEntries(Object.entries<number>(counts).map(([name, count]) => [name, fitCount(count)])) as Counts;
