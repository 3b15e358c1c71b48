import { type ScheduledBackup, selectBackups } from "./names.ts";

/**
 * The numbers of backups to keep: the newest backups, the newest backup of each of the latest days, and the newest backup of each of the
 * latest weeks (UTC). Days and weeks without backups aren't counted.
 */
export type Retention = { newest: number; daily: number; weekly: number };

const DAY_MS = 86_400_000;

const getDay = ({ madeAt }: ScheduledBackup): number => Math.floor(madeAt.getTime() / DAY_MS);
/** Returns the number of the backup's week. Weeks start on Monday, and January 1, 1970 was a Thursday. */
const getWeek = (backup: ScheduledBackup): number => Math.floor((getDay(backup) + 3) / 7);

/**
 * Finds the backups to delete.
 * @param names all files in the store. Only scheduled backups from this origin are returned.
 * @param verifiedName the backup that was just made. It is always kept, even if other names contain later times.
 */
export function listExpiredBackups(
  names: readonly string[],
  { origin, verifiedName, retention }: { origin: string; verifiedName: string; retention: Retention },
): string[] {
  const backups = selectBackups(names, origin);
  const keptNames = new Set([verifiedName, ...backups.slice(0, retention.newest).map(({ name }) => name)]);
  for (const [count, getPeriod] of [
    [retention.daily, getDay],
    [retention.weekly, getWeek],
  ] as const) {
    const newestByPeriod = new Map<number, string>();
    for (const backup of backups)
      if (!newestByPeriod.has(getPeriod(backup))) newestByPeriod.set(getPeriod(backup), backup.name);
    for (const name of [...newestByPeriod.values()].slice(0, count)) keptNames.add(name);
  }
  return backups.map(({ name }) => name).filter((name) => !keptNames.has(name));
}
