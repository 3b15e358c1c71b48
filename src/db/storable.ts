/** The largest number of an `integer` column. */
const INTEGER_MAX = 2 ** 31 - 1;
/** The most US dollars of one answer that a `numeric(14, 8)` column takes. */
const USD_MAX = 999_999;

/** Tokens as a column takes them: sums over many attempts may be larger. */
export const fitCount = (count: number): number =>
  Number.isFinite(count) ? Math.min(INTEGER_MAX, Math.max(0, Math.round(count))) : 0;

/** Money as a column takes it; null where it is no amount of money. */
export const fitUsd = (usd: number | null): number | null => (usd !== null && usd >= 0 ? Math.min(USD_MAX, usd) : null);

const REPLACED = "\\ufffd";

/** A text as Postgres can store it: no NUL, no lone surrogate. */
export const fitText = (text: string): string => text.replaceAll("\0", "").toWellFormed();

/** A value as Postgres can store it as JSON: in its texts and names neither NUL nor half a character. */
export const fitJson = (value: unknown): unknown => {
  const text = JSON.stringify(value);
  // Both are escaped there, and nothing else that begins like them.
  const fitted = text.replace(/\\(?:u0000|ud[89a-f][0-9a-f]{2}|.)/g, (code) => (code.length > 2 ? REPLACED : code));
  return fitted === text ? value : JSON.parse(fitted);
};

/** All numbers of an object, each as a column takes it. */
export const fitCounts = <Counts extends Record<keyof Counts, number>>(counts: Counts): Counts =>
  Object.fromEntries(Object.entries<number>(counts).map(([name, count]) => [name, fitCount(count)])) as Counts;
