import { parseSchedule } from "../../lib/cron.ts";
import type { ScheduleState } from "./queries.ts";

const RETRY_MIN_MS = 60_000;
const RETRY_MAX_MS = 60 * 60_000;

/**
 * Returns whether a backup is due, which means that a scheduled time has passed, even if no instance was running then. One backup
 * makes up for any number of missed times.
 */
export function isBackupDue(state: ScheduleState, pattern: string, timeZone: string): boolean {
  if (state.retryAt !== null && state.retryAt > state.now) return false;
  const next = parseSchedule(pattern, timeZone).nextRun(state.doneUntil);
  return next !== null && next <= state.now;
}

/** Returns the backoff after consecutive failures: 1 minute, 2 minutes, 4 minutes, and so on, up to an hour. */
export const getRetryDelayMs = (failures: number): number => Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** (failures - 1));
