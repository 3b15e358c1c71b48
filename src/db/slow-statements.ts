import type { Log } from "../lib/log.ts";

/** The maximum number of characters of a statement to log. */
const TEXT_CHARS_MAX = 1_000;
/** The maximum number of log lines about slow statements per time window, so that a slow database doesn't flood the log. */
const LINES_MAX = 10;
const WINDOW_MS = 10_000;

export type SlowStatementLog = {
  /** Logs a completed statement if it was slow. @param text the statement with placeholders instead of parameters. */
  add(text: string, durationMs: number): void;
};

/**
 * Creates a log of slow statements, without their parameters. After 10 lines in 10 seconds, statements are only counted, and the
 * next line includes the count.
 * @param slowMs the threshold. If 0, nothing is logged.
 */
export function createSlowStatementLog(log: Log, slowMs: number, now = () => performance.now()): SlowStatementLog {
  let windowEndsAtMs = Number.NEGATIVE_INFINITY;
  let lines = 0;
  let omittedCount = 0;

  return {
    add(text, durationMs) {
      if (slowMs === 0 || durationMs < slowMs) return;
      if (now() >= windowEndsAtMs) {
        windowEndsAtMs = now() + WINDOW_MS;
        lines = 0;
      }
      lines += 1;
      if (lines > LINES_MAX) {
        omittedCount += 1;
        return;
      }
      const fields = {
        sql: shorten(text),
        duration_ms: Math.round(durationMs),
        ...(omittedCount > 0 && { omitted: omittedCount }),
      };
      log.warn(fields, "slow query");
      omittedCount = 0;
    },
  };
}

function shorten(text: string): string {
  // Truncates long statements first, because collapsing whitespace is expensive. Collapsing shortens them, so twice the maximum length is
  // kept here.
  const flat = text
    .slice(0, 2 * TEXT_CHARS_MAX)
    .replace(/\s+/g, " ")
    .trim();
  return flat.length < TEXT_CHARS_MAX && text.length <= 2 * TEXT_CHARS_MAX ? flat : `${flat.slice(0, TEXT_CHARS_MAX)}…`;
}
