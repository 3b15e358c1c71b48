import { Cron } from "croner";

/**
 * Parses a cron expression with five fields, or with six if it starts with seconds. The result doesn't start a timer.
 * @throws Error if the expression or the time zone is invalid.
 */
export const parseSchedule = (pattern: string, timezone: string): Cron => new Cron(pattern, { timezone, paused: true });

/** Explains why a cron expression is invalid, as the end of a sentence. Returns null if it is valid. */
export function findScheduleProblem(pattern: string): string | null {
  try {
    if (parseSchedule(pattern, "UTC").nextRun() !== null) return null;
    return "it never matches";
  } catch (error) {
    return error instanceof Error ? error.message.replace(/^CronPattern: /, "").replace(/\.$/, "") : "it is invalid";
  }
}

/** Whether the system knows this time zone. */
export function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
