/** Lines of one kind in WINDOW_MS: enough to see what goes on, whatever fails how often. */
const LINES_MAX = 20;
const WINDOW_MS = 10_000;

type Window = { beganMs: number; lines: number; leftOut: number };

/**
 * Bounds lines of the log that failures elsewhere could repeat without end.
 * @returns for a kind of line (few kinds, none made up by callers): how many lines were left out before this one; null when
 *   it is to be left out as well.
 */
export function createLineLimit(now: () => number = () => performance.now()): (kind: string) => number | null {
  const windows = new Map<string, Window>();
  return (kind) => {
    const before = windows.get(kind);
    const isOpen = before !== undefined && now() - before.beganMs < WINDOW_MS;
    const window = isOpen ? before : { beganMs: now(), lines: 0, leftOut: before?.leftOut ?? 0 };
    windows.set(kind, window);
    if (window.lines >= LINES_MAX) {
      window.leftOut += 1;
      return null;
    }
    window.lines += 1;
    const { leftOut } = window;
    window.leftOut = 0;
    return leftOut;
  };
}

/** The fields of a line with how many were left out before it, if any were. */
export const addLeftOut = (fields: object, leftOut: number): object =>
  leftOut > 0 ? { ...fields, lines_left_out: leftOut } : fields;
