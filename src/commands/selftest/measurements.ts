/** Returns a percentile of the values; 0 if there are none. @param fraction the percentile, from 0 to 1. */
export function findPercentile(values: readonly number[], fraction: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * fraction) - 1)] ?? 0;
}

/** Rounds milliseconds: to one decimal place below 100, otherwise to an integer. */
export const roundMs = (ms: number): number => (ms < 100 ? Math.round(ms * 10) / 10 : Math.round(ms));

export const formatMs = (ms: number): string => `${roundMs(ms).toLocaleString("en-US")} ms`;

/** Formats a count with its noun: `1 message`, `1,200 messages`. */
export const formatQuantity = (count: number, noun: string, plural = `${noun}s`): string =>
  `${count.toLocaleString("en-US")} ${count === 1 ? noun : plural}`;
