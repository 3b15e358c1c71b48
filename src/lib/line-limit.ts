/** Maximum number of log lines of one kind per WINDOW_MS. */
const LINES_MAX = 20;
const WINDOW_MS = 10_000;

type Window = { startedMs: number; lines: number; skipped: number };

/**
 * Creates a limit for log lines that external failures could repeat endlessly.
 * @returns a function to call before a line is logged. It returns the number of lines of this kind that were skipped, or null if
 *   this line must be skipped too. Clients must not be able to choose the kind.
 */
export function createLogLineLimit(now: () => number = () => performance.now()): (kind: string) => number | null {
  const windows = new Map<string, Window>();
  return (kind) => {
    const previousWindow = windows.get(kind);
    const isOpen = previousWindow !== undefined && now() - previousWindow.startedMs < WINDOW_MS;
    const window = isOpen ? previousWindow : { startedMs: now(), lines: 0, skipped: previousWindow?.skipped ?? 0 };
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
export const addSkippedLineCount = (fields: object, skipped: number): object =>
  skipped > 0 ? { ...fields, lines_left_out: skipped } : fields;
