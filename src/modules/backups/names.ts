/** `parley-20261129T021500Z-1a2b3c4d.backup`: names sort by time. */
const pattern = /^parley-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-([0-9a-f]{8})\.backup$/;

export type NamedBackup = { name: string; madeAt: Date };

export const nameBackup = (madeAt: Date, origin: string): string =>
  `parley-${madeAt.toISOString().replace(/\.\d+/, "").replace(/[-:]/g, "")}-${origin}.backup`;

/** The names that are scheduled backups of this origin, newest first. All others are ignored. */
export function selectBackups(names: readonly string[], origin: string): NamedBackup[] {
  return names
    .flatMap((name) => {
      const [, year, month, day, hour, minute, second, ofOrigin] = pattern.exec(name) ?? [];
      if (ofOrigin !== origin) return [];
      const madeAt = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
      return Number.isNaN(madeAt.getTime()) ? [] : [{ name, madeAt }];
    })
    .sort((a, b) => (a.name < b.name ? 1 : -1));
}
