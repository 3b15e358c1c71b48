const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** Formats a size for humans: `1.5 GB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  for (; value >= 1_000 && unit < UNITS.length - 1; unit += 1) value /= 1_000;
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}
