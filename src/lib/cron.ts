import { Cron } from "croner";

/**
 * Reads a cron expression: five fields, or six with seconds in front. It only computes times, and starts nothing.
 * @throws Error when it or the time zone can't be read.
 */
export const parseSchedule = (pattern: string, timezone: string): Cron => new Cron(pattern, { timezone, paused: true });

/** What is wrong with a cron expression, to be read after its name; null if it can be used. */
export function findScheduleProblem(pattern: string): string | null {
  try {
    if (parseSchedule(pattern, "UTC").nextRun() !== null) return null;
    return "it names no time that will ever come";
  } catch (error) {
    return error instanceof Error ? error.message.replace(/^CronPattern: /, "").replace(/\.$/, "") : "it can't be read";
  }
}

/** Whether the system knows a time zone of this name. */
export function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
