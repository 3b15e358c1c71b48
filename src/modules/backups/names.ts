/** Matches names such as `parley-20261129T021500Z-1a2b3c4d.backup`, which sort by time. */
const namePattern = /^parley-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-([0-9a-f]{8})\.backup$/;

export type ScheduledBackup = { name: string; madeAt: Date };

export const formatBackupName = (madeAt: Date, origin: string): string =>
  `parley-${madeAt.toISOString().replace(/\.\d+/, "").replace(/[-:]/g, "")}-${origin}.backup`;

/** Returns the scheduled backups from this origin, newest first. */
export function selectBackups(names: readonly string[], origin: string): ScheduledBackup[] {
  return names
    .flatMap((name) => {
      const [, year, month, day, hour, minute, second, nameOrigin] = namePattern.exec(name) ?? [];
      if (nameOrigin !== origin) return [];
      const madeAt = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
      return Number.isNaN(madeAt.getTime()) ? [] : [{ name, madeAt }];
    })
    .sort((a, b) => (a.name < b.name ? 1 : -1));
}
