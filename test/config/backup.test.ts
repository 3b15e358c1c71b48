import { expect, test } from "bun:test";
import { findWarnings } from "../../src/config/warnings.ts";
import { ConfigError, findBackupDir, loadConfig } from "../../src/config.ts";
import { findFolderProblem } from "../../src/lib/folder-check.ts";

const load = (environment: Record<string, string>, check: (path: string) => string | null = () => null) =>
  loadConfig(
    environment,
    () => "",
    () => true,
    () => true,
    () => [],
    check,
  );

function problemsOf(environment: Record<string, string>, check?: (path: string) => string | null): string[] {
  try {
    load(environment, check);
    return [];
  } catch (error) {
    return error instanceof ConfigError ? error.problems : [String(error)];
  }
}

test.each(["15 2 * * *", "*/5 * * * * *", "@daily", "0 3 * * MON-FRI", "0 0 L * *"])(
  "%s is a valid schedule",
  (value) => {
    expect(problemsOf({ BACKUP_SCHEDULE: value })).toEqual([]);
  },
);

test.each([
  [
    "61 * * * *",
    /^BACKUP_SCHEDULE: "61 \* \* \* \*" is not a cron expression \(Invalid value for minute: 61\); write minute, hour, .+$/,
  ],
  ["* * * *", /^BACKUP_SCHEDULE: .+ is not a cron expression .+; write minute, hour, .+ like 15 2 \* \* \* .+$/],
  ["nightly", /^BACKUP_SCHEDULE: "nightly" is not a cron expression; write 0 2 \* \* \*\.$/],
  ["0 0 30 2 *", /it never matches/],
  ["0 2 * * * ; rm -rf /", /is not a cron expression/],
])("the schedule %s is rejected with a remedy", (value, message) => {
  expect(problemsOf({ BACKUP_SCHEDULE: value })).toEqual([expect.stringMatching(message)]);
});

test("accepts only time zones that the system knows", () => {
  expect(problemsOf({ BACKUP_SCHEDULE: "0 2 * * *", BACKUP_TIMEZONE: "America/New_York" })).toEqual([]);
  expect(problemsOf({ BACKUP_SCHEDULE: "0 2 * * *", BACKUP_TIMEZONE: "Berlin" })).toEqual([
    'BACKUP_TIMEZONE: "Berlin" is not a known time zone; write it like Europe/Berlin, or UTC.',
  ]);
});

test("checks the folder if backups are scheduled, and rejects the database's own folder", () => {
  const env = { BACKUP_SCHEDULE: "0 2 * * *", DATA_DIR: "/srv/parley" };
  expect(problemsOf({ ...env, BACKUP_DIR: "/srv/parley/postgres/base/.." })).toEqual([
    "BACKUP_DIR: /srv/parley/postgres is inside the database's folder, which must not contain other files; choose another folder.",
  ]);
  expect(problemsOf({ ...env, BACKUP_DIR: "/srv/parley/postgres-backups" })).toEqual([]);
  expect(problemsOf({ ...env, BACKUP_DIR: "/b" }, (path) => `${path} is wrong.`)).toEqual(["BACKUP_DIR: /b is wrong."]);
  expect(problemsOf({ BACKUP_DIR: "/b" }, (path) => `${path} is wrong.`)).toEqual([]);
  expect(findBackupDir({ DATA_DIR: "/srv/parley" })).toBe("/srv/parley/backups");
});

test("accepts a folder that is writable or can be created, and rejects a file", () => {
  expect(findFolderProblem("/tmp")).toBeNull();
  expect(findFolderProblem("/tmp/not-there/yet")).toBeNull();
  expect(findFolderProblem("/etc/passwd")).toBe("/etc/passwd is not a folder; use one.");
  expect(findFolderProblem("/etc/passwd/backups")).toMatch(/; use (?:one|a folder)\.$/);
});

test.each([
  [{ BACKUP_KEEP: "0" }, "BACKUP_KEEP: 0 is not a whole number from 1 to 10000; set 1 or more."],
  [{ BACKUP_KEEP_DAILY: "-1" }, "BACKUP_KEEP_DAILY: -1 is not a whole number from 0 to 10000; set 0 or more."],
])("%j is rejected", (env, message) => {
  expect(problemsOf(env as Record<string, string>)).toEqual([message]);
});

test("warns about likely mistakes", () => {
  const warn = (environment: Record<string, string>) => findWarnings(load(environment), { environment });
  expect(warn({ BACKUP_DIR: "/b" })).toEqual([
    expect.stringMatching(/^BACKUP_DIR is set, but BACKUP_SCHEDULE is not, .+; set /),
  ]);
  expect(warn({ BACKUP_SCHEDULE: "0 2 * * *", DATA_DIR: "/d" })).toEqual([
    expect.stringMatching(/^Scheduled backups are written to \/d\/backups, inside DATA_DIR, .+; set BACKUP_DIR /),
  ]);
  expect(warn({ BACKUP_SCHEDULE: "0 2 * * *", BACKUP_DIR: "/b" })).toEqual([]);
});

test("a bucket requires its key, and must be the only target", () => {
  const key = { BACKUP_S3_ACCESS_KEY_ID: "AKIA", BACKUP_S3_SECRET_ACCESS_KEY: "hunter2/secret" };
  const bucket = { BACKUP_SCHEDULE: "0 2 * * *", BACKUP_S3_BUCKET: "my-backups", ...key };
  expect(problemsOf(bucket)).toEqual([]);
  expect(problemsOf({ BACKUP_S3_BUCKET: "my-backups" })).toEqual([
    expect.stringMatching(/^BACKUP_S3_ACCESS_KEY_ID: required with BACKUP_S3_BUCKET; set it /),
    expect.stringMatching(/^BACKUP_S3_SECRET_ACCESS_KEY: required with BACKUP_S3_BUCKET; set it /),
  ]);
  expect(problemsOf({ ...bucket, BACKUP_DIR: "/b" })).toEqual([
    "BACKUP_DIR and BACKUP_S3_BUCKET: only one target is allowed; keep one of the two.",
  ]);
  expect(problemsOf(key)).toEqual([
    "BACKUP_S3_ACCESS_KEY_ID: has no effect without BACKUP_S3_BUCKET; set both.",
    "BACKUP_S3_SECRET_ACCESS_KEY: has no effect without BACKUP_S3_BUCKET; set both.",
  ]);
  for (const wrong of ["../up", "/a", "a//b", "a b"])
    expect(problemsOf({ ...bucket, BACKUP_S3_PREFIX: wrong })).toEqual([expect.stringMatching(/^BACKUP_S3_PREFIX: /)]);
  expect(problemsOf({ ...bucket, BACKUP_S3_BUCKET: "a/b" })).toEqual([expect.stringMatching(/^BACKUP_S3_BUCKET: /)]);
});
