import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatBackupName, selectBackups } from "../../src/modules/backups/names.ts";
import { listExpiredBackups } from "../../src/modules/backups/retention.ts";

const origin = "0123abcd";
const createName = (time: string, nameOrigin = origin) => formatBackupName(new Date(`${time}Z`), nameOrigin);
const findExpiredNames = (
  names: string[],
  retention: { newest: number; daily?: number; weekly?: number },
  verified = names[0] ?? "",
) => listExpiredBackups(names, { origin, verifiedName: verified, retention: { daily: 0, weekly: 0, ...retention } });

test("retention keeps the newest backups, regardless of the order in which they are listed", () => {
  const names = ["2026-11-29T02:00:00", "2026-11-27T02:00:00", "2026-11-28T02:00:00"].map((time) => createName(time));
  expect(findExpiredNames(names, { newest: 2 }, names[0])).toEqual([names[1] as string]);
  expect(findExpiredNames(names, { newest: 3 })).toEqual([]);
});

test("retention also keeps the newest backup of each of the last few days and weeks", () => {
  const times = [
    "2026-11-29T18:00:00", // Sunday
    "2026-11-29T06:00:00",
    "2026-11-28T18:00:00",
    "2026-11-28T06:00:00",
    "2026-11-25T06:00:00",
    "2026-11-22T23:59:59", // Sunday of the previous week
    "2026-11-16T00:00:00", // Monday of the same week
    "2026-11-15T23:59:59",
  ];
  const names = times.map((time) => createName(time));
  const findKeptTimes = (retention: { newest: number; daily?: number; weekly?: number }) => {
    const expiredNames = new Set(findExpiredNames(names, retention));
    return times.filter((_, n) => !expiredNames.has(names[n] as string));
  };
  expect(findKeptTimes({ newest: 1, daily: 3 })).toEqual([times[0], times[2], times[4]] as string[]);
  expect(findKeptTimes({ newest: 1, weekly: 3 })).toEqual([times[0], times[5], times[7]] as string[]);
  expect(findKeptTimes({ newest: 3, daily: 2, weekly: 2 })).toEqual([
    times[0],
    times[1],
    times[2],
    times[5],
  ] as string[]);
});

test("retention deletes only scheduled backups of the same database", () => {
  const otherNames = [
    createName("2020-01-01T00:00:00", "ffffffff"),
    "my.backup",
    "parley.backup",
    `${createName("2020-01-01T00:00:00")}.old`,
    `.${createName("2020-01-01T00:00:00")}.12-0123abcd.partial`,
    "parley-20201301T000000Z-0123abcd.backup",
    createName("2020-01-01T00:00:00").toUpperCase(),
  ];
  const [newestName, oldName] = [createName("2026-11-29T02:00:00"), createName("2020-01-01T00:00:00")];
  expect(findExpiredNames([...otherNames, newestName, oldName], { newest: 1 }, newestName)).toEqual([oldName]);
});

test("retention keeps the backup that was just created, even if other backups have later times", () => {
  const [futureName, createdName] = [createName("2099-01-01T00:00:00"), createName("2026-11-29T02:00:00")];
  expect(findExpiredNames([futureName, createdName], { newest: 1 }, createdName)).toEqual([]);
});

test("retention always keeps the verified backup and the newest ones", () => {
  const arbitraryDate = fc.date({ min: new Date("2020-01-01"), max: new Date("2030-01-01"), noInvalidDate: true });
  const arbitraryCount = fc.integer({ min: 0, max: 10 });
  fc.assert(
    fc.property(
      fc.array(arbitraryDate, { minLength: 1, maxLength: 40 }),
      arbitraryCount,
      arbitraryCount,
      arbitraryCount,
      (dates, newest, daily, weekly) => {
        const names = [...new Set(dates.map((date) => formatBackupName(date, origin)))];
        const verified = names[0] as string;
        const expiredNames = findExpiredNames(names, { newest: newest + 1, daily, weekly }, verified);
        const sortedNames = selectBackups(names, origin).map(({ name }) => name);
        expect(sortedNames).toEqual([...names].sort().reverse());
        for (const name of [verified, ...sortedNames.slice(0, newest + 1)]) expect(expiredNames).not.toContain(name);
        expect(names.length - expiredNames.length).toBeLessThanOrEqual(newest + 2 + daily + weekly);
        const fewerExpiredNames = findExpiredNames(names, { newest: newest + 2, daily: daily + 1, weekly }, verified);
        expect(expiredNames).toEqual(expect.arrayContaining(fewerExpiredNames));
      },
    ),
  );
});
