/** The maximum number of lines of one kind per WINDOW_MS: enough to see what happens, however often it does. */
const LINES_MAX = 20;
const WINDOW_MS = 10_000;

type Window = { startedMs: number; lines: number; skipped: number };

/**
 * Limits the rate of log lines that external failures could repeat endlessly.
 * @returns a function to call before logging a line of this kind (there must be few kinds, none chosen by clients). It returns
 *   how many lines were skipped before this one, or null if this one must be skipped too.
 */
export function createLineLimit(now: () => number = () => performance.now()): (kind: string) => number | null {
  const windows = new Map<string, Window>();
  return (kind) => {
    const before = windows.get(kind);
    const isOpen = before !== undefined && now() - before.startedMs < WINDOW_MS;
    const window = isOpen ? before : { startedMs: now(), lines: 0, skipped: before?.skipped ?? 0 };
    windows.set(kind, window);
    if (window.lines >= LINES_MAX) {
      window.skipped += 1;
      return null;
    }
    window.lines += 1;
    const { skipped } = window;
    window.skipped = 0;
    return skipped;
  };
}

/** Adds the number of skipped lines to a line's fields, if there were any. */
export const addSkipped = (fields: object, skipped: number): object =>
  skipped > 0 ? { ...fields, lines_left_out: skipped } : fields;
