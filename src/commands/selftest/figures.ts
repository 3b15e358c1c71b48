/** Returns the percentile `share` (0 to 1) of the figures; 0 if there are none. */
export function findPercentile(figures: readonly number[], share: number): number {
  const sorted = figures.toSorted((one, other) => one - other);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? 0;
}

/** Rounds milliseconds: to one decimal below 100, otherwise to a whole number. */
export const roundMs = (ms: number): number => (ms < 100 ? Math.round(ms * 10) / 10 : Math.round(ms));

export const formatMs = (ms: number): string => `${roundMs(ms).toLocaleString("en-US")} ms`;

/** Formats a count with its noun: `1 message`, `1,200 messages`. */
export const formatQuantity = (count: number, noun: string, plural = `${noun}s`): string =>
  `${count.toLocaleString("en-US")} ${count === 1 ? noun : plural}`;
