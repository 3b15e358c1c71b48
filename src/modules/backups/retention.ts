import { type ScheduledBackup, selectBackups } from "./names.ts";

/** The number of backups to keep: the newest ones, and the newest of each day and week (UTC) that has any, newest first. */
export type Retention = { newest: number; daily: number; weekly: number };

const DAY_MS = 86_400_000;

const dayOf = ({ madeAt }: ScheduledBackup): number => Math.floor(madeAt.getTime() / DAY_MS);
/** Weeks start on Monday; 1970 began on a Thursday. */
const weekOf = (backup: ScheduledBackup): number => Math.floor((dayOf(backup) + 3) / 7);

/**
 * Finds the backups to delete.
 * @param names all files in the store. Only scheduled backups from this origin are returned.
 * @param verified the backup that was just made. It is always kept, even if other names have later times.
 */
export function findExpired(
  names: readonly string[],
  { origin, verified, retention }: { origin: string; verified: string; retention: Retention },
): string[] {
  const backups = selectBackups(names, origin);
  const keptNames = new Set([verified, ...backups.slice(0, retention.newest).map(({ name }) => name)]);
  for (const [count, periodOf] of [
    [retention.daily, dayOf],
    [retention.weekly, weekOf],
  ] as const) {
    const newestByPeriod = new Map<number, string>();
    for (const backup of backups)
      if (!newestByPeriod.has(periodOf(backup))) newestByPeriod.set(periodOf(backup), backup.name);
    for (const name of [...newestByPeriod.values()].slice(0, count)) keptNames.add(name);
  }
  return backups.map(({ name }) => name).filter((name) => !keptNames.has(name));
}
