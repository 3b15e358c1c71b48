import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatBackupName, selectBackups } from "../../src/modules/backups/names.ts";
import { findExpired } from "../../src/modules/backups/retention.ts";

const origin = "0123abcd";
const nameOf = (time: string, of = origin) => formatBackupName(new Date(`${time}Z`), of);
const expire = (
  names: string[],
  retention: { newest: number; daily?: number; weekly?: number },
  verified = names[0] ?? "",
) => findExpired(names, { origin, verified, retention: { daily: 0, weekly: 0, ...retention } });

test("keeps the newest, whatever the listed order", () => {
  const names = ["2026-11-29T02:00:00", "2026-11-27T02:00:00", "2026-11-28T02:00:00"].map((time) => nameOf(time));
  expect(expire(names, { newest: 2 }, names[0])).toEqual([names[1] as string]);
  expect(expire(names, { newest: 3 })).toEqual([]);
});

test("also keeps the newest of each of the last days and weeks that have one", () => {
  const times = [
    "2026-11-29T18:00:00", // Sunday
    "2026-11-29T06:00:00",
    "2026-11-28T18:00:00",
    "2026-11-28T06:00:00",
    "2026-11-25T06:00:00",
    "2026-11-22T23:59:59", // Sunday of the week before
    "2026-11-16T00:00:00", // Monday of the same week
    "2026-11-15T23:59:59",
  ];
  const names = times.map((time) => nameOf(time));
  const keep = (retention: { newest: number; daily?: number; weekly?: number }) => {
    const expired = new Set(expire(names, retention));
    return times.filter((_, n) => !expired.has(names[n] as string));
  };
  expect(keep({ newest: 1, daily: 3 })).toEqual([times[0], times[2], times[4]] as string[]);
  expect(keep({ newest: 1, weekly: 3 })).toEqual([times[0], times[5], times[7]] as string[]);
  expect(keep({ newest: 3, daily: 2, weekly: 2 })).toEqual([times[0], times[1], times[2], times[5]] as string[]);
});

test("only deletes scheduled backups of the same database", () => {
  const others = [
    nameOf("2020-01-01T00:00:00", "ffffffff"),
    "my.backup",
    "parley.backup",
    `${nameOf("2020-01-01T00:00:00")}.old`,
    `.${nameOf("2020-01-01T00:00:00")}.12-0123abcd.partial`,
    "parley-20201301T000000Z-0123abcd.backup",
    nameOf("2020-01-01T00:00:00").toUpperCase(),
  ];
  const [newest, old] = [nameOf("2026-11-29T02:00:00"), nameOf("2020-01-01T00:00:00")];
  expect(expire([...others, newest, old], { newest: 1 }, newest)).toEqual([old]);
});

test("keeps the newly made one, even if others claim later times", () => {
  const [future, made] = [nameOf("2099-01-01T00:00:00"), nameOf("2026-11-29T02:00:00")];
  expect(expire([future, made], { newest: 1 }, made)).toEqual([]);
});

test("always keeps the verified one and the newest; keeping more never deletes more", () => {
  const moment = fc.date({ min: new Date("2020-01-01"), max: new Date("2030-01-01"), noInvalidDate: true });
  const count = fc.integer({ min: 0, max: 10 });
  fc.assert(
    fc.property(
      fc.array(moment, { minLength: 1, maxLength: 40 }),
      count,
      count,
      count,
      (dates, newest, daily, weekly) => {
        const names = [...new Set(dates.map((date) => formatBackupName(date, origin)))];
        const verified = names[0] as string;
        const expired = expire(names, { newest: newest + 1, daily, weekly }, verified);
        const sorted = selectBackups(names, origin).map(({ name }) => name);
        expect(sorted).toEqual([...names].sort().reverse());
        for (const kept of [verified, ...sorted.slice(0, newest + 1)]) expect(expired).not.toContain(kept);
        expect(names.length - expired.length).toBeLessThanOrEqual(newest + 2 + daily + weekly);
        const fewer = expire(names, { newest: newest + 2, daily: daily + 1, weekly }, verified);
        expect(expired).toEqual(expect.arrayContaining(fewer));
      },
    ),
  );
});
