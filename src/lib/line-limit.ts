/** Lines of one kind per WINDOW_MS: enough to see what happens, however often it fails. */
const LINES_MAX = 20;
const WINDOW_MS = 10_000;

type Window = { startedMs: number; lines: number; skipped: number };

/**
 * Rate-limits log lines that external failures could repeat endlessly.
 * @returns for a kind of line (few kinds, never chosen by callers): how many lines were skipped before this one; null if it
 *   must be skipped, too.
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

/** Adds the number of skipped lines to a line's fields, if any were skipped. */
export const addSkipped = (fields: object, skipped: number): object =>
  skipped > 0 ? { ...fields, lines_left_out: skipped } : fields;
