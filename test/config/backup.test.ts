import { expect, test } from "bun:test";
import { findWarnings } from "../../src/config/warnings.ts";
import { ConfigError, findBackupDir, loadConfig } from "../../src/config.ts";
import { findFolderProblem } from "../../src/lib/folder-check.ts";

const loadTestConfig = (
  environment: Record<string, string>,
  checkFolder: (path: string) => string | null = () => null,
) =>
  loadConfig(
    environment,
    () => "",
    () => true,
    () => true,
    () => [],
    checkFolder,
  );

function findProblems(environment: Record<string, string>, checkFolder?: (path: string) => string | null): string[] {
  try {
    loadTestConfig(environment, checkFolder);
    return [];
  } catch (error) {
    return error instanceof ConfigError ? error.problems : [String(error)];
  }
}

test.each(["15 2 * * *", "*/5 * * * * *", "@daily", "0 3 * * MON-FRI", "0 0 L * *"])(
  "%s is a valid schedule",
  (value) => {
    expect(findProblems({ BACKUP_SCHEDULE: value })).toEqual([]);
  },
);

test.each([
  [
    "61 * * * *",
    /^BACKUP_SCHEDULE: "61 \* \* \* \*" is not a cron expression \(Invalid value for minute: 61\); write minute, hour, .+$/,
  ],
  ["* * * *", /^BACKUP_SCHEDULE: .+ is not a cron expression .+; write minute, hour, .+ for example 15 2 \* \* \* .+$/],
  ["nightly", /^BACKUP_SCHEDULE: "nightly" is not a cron expression; write 0 2 \* \* \*\.$/],
  ["0 0 30 2 *", /it never matches/],
  ["0 2 * * * ; rm -rf /", /is not a cron expression/],
])("the schedule %s is rejected, and the error explains why", (value, message) => {
  expect(findProblems({ BACKUP_SCHEDULE: value })).toEqual([expect.stringMatching(message)]);
});

test("only known time zones are accepted", () => {
  expect(findProblems({ BACKUP_SCHEDULE: "0 2 * * *", BACKUP_TIMEZONE: "America/New_York" })).toEqual([]);
  expect(findProblems({ BACKUP_SCHEDULE: "0 2 * * *", BACKUP_TIMEZONE: "Berlin" })).toEqual([
    'BACKUP_TIMEZONE: "Berlin" is not a known time zone; write it as Europe/Berlin, or UTC.',
  ]);
});

test("the backup folder is checked if backups are scheduled, and can't be inside the database's folder", () => {
  const environment = { BACKUP_SCHEDULE: "0 2 * * *", DATA_DIR: "/srv/parley" };
  expect(findProblems({ ...environment, BACKUP_DIR: "/srv/parley/postgres/base/.." })).toEqual([
    "BACKUP_DIR: /srv/parley/postgres is inside the database's folder, which must not contain other files; choose a different folder.",
  ]);
  expect(findProblems({ ...environment, BACKUP_DIR: "/srv/parley/postgres-backups" })).toEqual([]);
  expect(findProblems({ ...environment, BACKUP_DIR: "/b" }, (path) => `${path} is wrong.`)).toEqual([
    "BACKUP_DIR: /b is wrong.",
  ]);
  expect(findProblems({ BACKUP_DIR: "/b" }, (path) => `${path} is wrong.`)).toEqual([]);
  expect(findBackupDir({ DATA_DIR: "/srv/parley" })).toBe("/srv/parley/backups");
});

test("the backup folder must be writable, or it must be possible to create it", () => {
  expect(findFolderProblem("/tmp")).toBeNull();
  expect(findFolderProblem("/tmp/not-there/yet")).toBeNull();
  expect(findFolderProblem("/etc/passwd")).toBe("/etc/passwd is not a folder; use a folder.");
  expect(findFolderProblem("/etc/passwd/backups")).toMatch(/; use (?:one|a folder)\.$/);
});

test.each([
  [{ BACKUP_KEEP: "0" }, "BACKUP_KEEP: 0 is not a whole number from 1 to 10000; set 1 or more."],
  [{ BACKUP_KEEP_DAILY: "-1" }, "BACKUP_KEEP_DAILY: -1 is not a whole number from 0 to 10000; set 0 or more."],
])("%j is rejected", (environment, message) => {
  expect(findProblems(environment as Record<string, string>)).toEqual([message]);
});

test("likely mistakes cause warnings", () => {
  const listWarnings = (environment: Record<string, string>) =>
    findWarnings(loadTestConfig(environment), { environment });
  expect(listWarnings({ BACKUP_DIR: "/b" })).toEqual([
    expect.stringMatching(/^BACKUP_DIR is set, but BACKUP_SCHEDULE is not, .+; set /),
  ]);
  expect(listWarnings({ BACKUP_SCHEDULE: "0 2 * * *", DATA_DIR: "/d" })).toEqual([
    expect.stringMatching(/^Scheduled backups are written to \/d\/backups, inside DATA_DIR, .+; set BACKUP_DIR /),
  ]);
  expect(listWarnings({ BACKUP_SCHEDULE: "0 2 * * *", BACKUP_DIR: "/b" })).toEqual([]);
});

test("a backup bucket requires an access key, and can't be combined with a backup folder", () => {
  const accessKey = { BACKUP_S3_ACCESS_KEY_ID: "AKIA", BACKUP_S3_SECRET_ACCESS_KEY: "hunter2/secret" };
  const bucketSettings = { BACKUP_SCHEDULE: "0 2 * * *", BACKUP_S3_BUCKET: "my-backups", ...accessKey };
  expect(findProblems(bucketSettings)).toEqual([]);
  expect(findProblems({ BACKUP_S3_BUCKET: "my-backups" })).toEqual([
    expect.stringMatching(/^BACKUP_S3_ACCESS_KEY_ID: required with BACKUP_S3_BUCKET; use a key /),
    expect.stringMatching(/^BACKUP_S3_SECRET_ACCESS_KEY: required with BACKUP_S3_BUCKET; use a key /),
  ]);
  expect(findProblems({ ...bucketSettings, BACKUP_DIR: "/b" })).toEqual([
    "BACKUP_DIR and BACKUP_S3_BUCKET: only one of them is allowed; remove one.",
  ]);
  expect(findProblems(accessKey)).toEqual([
    "BACKUP_S3_ACCESS_KEY_ID: has no effect without BACKUP_S3_BUCKET; set both.",
    "BACKUP_S3_SECRET_ACCESS_KEY: has no effect without BACKUP_S3_BUCKET; set both.",
  ]);
  for (const prefix of ["../up", "/a", "a//b", "a b"])
    expect(findProblems({ ...bucketSettings, BACKUP_S3_PREFIX: prefix })).toEqual([
      expect.stringMatching(/^BACKUP_S3_PREFIX: /),
    ]);
  expect(findProblems({ ...bucketSettings, BACKUP_S3_BUCKET: "a/b" })).toEqual([
    expect.stringMatching(/^BACKUP_S3_BUCKET: /),
  ]);
});
