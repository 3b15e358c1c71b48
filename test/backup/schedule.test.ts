import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openBackupFile, verifyBackup } from "../../src/db/archive.ts";
import type { Database } from "../../src/db/client.ts";
import { createJobRunner } from "../../src/jobs/runner.ts";
import { createId } from "../../src/lib/id.ts";
import { createMetrics } from "../../src/lib/metrics.ts";
import { createFolderStore } from "../../src/modules/backups/folder-store.ts";
import { registerBackupJobs } from "../../src/modules/backups/jobs.ts";
import { createBackupService } from "../../src/modules/backups/service.ts";
import type { BackupStore } from "../../src/modules/backups/store.ts";
import { createTestLog, silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { fillDatabase } from "./sample-data.ts";

const cleanups: (() => unknown)[] = [];
afterAll(async () => {
  for (const cleanUp of cleanups.splice(0).reverse()) await cleanUp();
});

const secret = { value: "a secret for tests, longer than 32 bytes", isConfigured: false };
const neverAborted = new AbortController().signal;
const EVERY_SECOND = "* * * * * *";
const NIGHTLY = "15 2 * * *";

let database: Database;
let folder: string;
beforeEach(async () => {
  const testDatabase = await createTestDatabase();
  database = testDatabase.database;
  folder = mkdtempSync(join(tmpdir(), "parley-schedule-"));
  const [createdDatabase, path] = [database, folder];
  cleanups.push(
    () => createdDatabase.end({ timeout: 1 }),
    () => rmSync(path, { recursive: true, force: true }),
  );
});

type ServiceOptions = { pattern?: string; store?: BackupStore; newest?: number; passphrase?: string };

function createService({ pattern = EVERY_SECOND, store, newest = 2, passphrase }: ServiceOptions = {}) {
  const metrics = createMetrics({ version: "test", commit: "test" });
  const { log, lines } = createTestLog();
  const service = createBackupService({
    database,
    log,
    metrics,
    schedule: { pattern, timeZone: "UTC" },
    store: store ?? createFolderStore({ folder }),
    secret,
    passphrase,
    retention: { newest, daily: 0, weekly: 0 },
  });
  const listMetrics = async () =>
    (await metrics.registry.metrics()).split("\n").filter((line) => line.startsWith("parley_backup"));
  return { service, lines, listMetrics };
}

/** Backdates the last backup and the next retry. */
const backdateSchedule = (interval: string) =>
  database`update backup_schedule set done_until = done_until - ${interval}::interval, retry_at = retry_at - ${interval}::interval`;

/** Waits until the next second, so that the next backup receives a different name. */
const waitUntilNextSecond = () => Bun.sleep(1_010 - (Date.now() % 1_000));

const listBackups = () => readdirSync(folder).sort();
const verifyFile = async (name: string, passphrase?: string) =>
  verifyBackup((await openBackupFile(join(folder, name))).source, { getPassphrase: async () => passphrase ?? "" });

test("the schedule begins at the first start, and one backup replaces all missed backups", async () => {
  await fillDatabase(database);
  const { service, listMetrics } = createService({ pattern: NIGHTLY });
  expect(await listMetrics()).toEqual([]);
  expect(await service.isDue()).toBe(false);
  expect(await service.isDue()).toBe(false);
  await backdateSchedule("3 days");
  expect(await service.isDue()).toBe(true);
  await service.makeDueBackup(neverAborted);
  const [name = "", ...otherNames] = listBackups();
  expect(otherNames).toEqual([]);
  expect(name).toMatch(/^parley-\d{8}T\d{6}Z-[0-9a-f]{8}\.backup$/);
  expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600);
  expect(await verifyFile(name)).toMatchObject({ isEncrypted: false, jwtSecret: { state: "included" } });
  expect(await service.isDue()).toBe(false);
  await service.makeDueBackup(neverAborted);
  expect(listBackups()).toEqual([name]);
  expect(await listMetrics()).toEqual([
    expect.stringMatching(/^parley_backup_last_success_timestamp_seconds 1[78]\d{8}/),
    `parley_backup_size_bytes ${statSync(join(folder, name)).size}`,
    'parley_backups_total{outcome="success"} 1',
  ]);
  // Another instance reports the same size.
  const otherInstance = createService({ pattern: NIGHTLY });
  await otherInstance.service.isDue();
  expect((await otherInstance.listMetrics()).join()).toContain(
    `parley_backup_size_bytes ${statSync(join(folder, name)).size}`,
  );
});

test("old backups are deleted, but not those of other databases", async () => {
  const otherFiles = ["notes.txt", "parley-20200101T000000Z-00000000.backup", "parley.backup"];
  for (const name of otherFiles) writeFileSync(join(folder, name), name);
  const { service } = createService();
  await service.isDue();
  const createdBackups: string[] = [];
  for (let n = 0; n < 3; n += 1) {
    if (n > 0) await waitUntilNextSecond();
    await backdateSchedule("1 minute");
    await service.makeDueBackup(neverAborted);
    createdBackups.push(
      ...listBackups().filter((name) => !otherFiles.includes(name) && !createdBackups.includes(name)),
    );
  }
  expect(createdBackups).toHaveLength(3);
  expect(listBackups()).toEqual([...otherFiles, ...createdBackups.slice(-2)].sort());
  for (const name of otherFiles) expect(readFileSync(join(folder, name), "utf8")).toBe(name);
});

test("backups are encrypted with the passphrase", async () => {
  const { service } = createService({ passphrase: "correct horse" });
  await service.isDue();
  await backdateSchedule("1 minute");
  await service.makeDueBackup(neverAborted);
  const [name = ""] = listBackups();
  expect((await verifyFile(name, "correct horse")).isEncrypted).toBe(true);
  expect(readFileSync(join(folder, name)).includes("age-encryption")).toBe(true);
}, 60_000);

test("two instances create one backup, and an interrupted backup leaves nothing behind", async () => {
  const folderStore: BackupStore = createFolderStore({ folder });
  let openCount = 0;
  let openCountMax = 0;
  let createdCount = 0;
  let isBlocked = true;
  const store: BackupStore = {
    ...folderStore,
    async create(name) {
      const file = await folderStore.create(name);
      openCount += 1;
      createdCount += 1;
      openCountMax = Math.max(openCountMax, openCount);
      const close = () => {
        openCount -= 1;
      };
      return {
        async write(bytes) {
          while (isBlocked) await Bun.sleep(5);
          await file.write(bytes);
        },
        finish: () => file.finish().finally(close),
        discard: () => file.discard().finally(close),
      };
    },
  };
  const instances = [createService({ pattern: NIGHTLY, store }), createService({ pattern: NIGHTLY, store })].map(
    ({ service }) => {
      const jobs = createJobRunner({ database, log: silentLog, instanceId: createId() });
      registerBackupJobs(
        { ...jobs, scheduleOnOneInstance: (name, _, job, isDue) => jobs.scheduleOnOneInstance(name, 20, job, isDue) },
        { backups: service },
      );
      return jobs;
    },
  );
  for (const jobs of instances) jobs.start();
  while ((await database`select 1 from backup_schedule`).length === 0) await Bun.sleep(5);
  await backdateSchedule("2 days");
  while (createdCount === 0) await Bun.sleep(5);
  await Bun.sleep(200);
  expect({ createdCount, openCountMax }).toEqual({ createdCount: 1, openCountMax: 1 });
  const [{ owner } = { owner: "" }] = await database<{ owner: string }[]>`select owner from jobs where key = 'backup'`;
  expect(owner).not.toBe("");
  isBlocked = false;
  while (listBackups().filter((name) => name.endsWith(".backup")).length === 0) await Bun.sleep(5);
  await Bun.sleep(300);
  expect({ createdCount, openCountMax, openCount }).toEqual({ createdCount: 1, openCountMax: 1, openCount: 0 });

  // Both instances are stopped during the next backup.
  isBlocked = true;
  await backdateSchedule("2 days");
  while (createdCount === 1) await Bun.sleep(5);
  const [job] = await database<{ owner: string }[]>`select owner from jobs where key = 'backup'`;
  expect(job).toBeDefined();
  const stopPromises = instances.map((jobs) => jobs.stop(Date.now() + 5_000));
  isBlocked = false;
  await Promise.all(stopPromises);
  expect(listBackups()).toHaveLength(1);
  const nextInstance = createService({ pattern: NIGHTLY });
  expect(await nextInstance.service.isDue()).toBe(true);
  await nextInstance.service.makeDueBackup(neverAborted);
  expect(listBackups()).toHaveLength(2);
}, 30_000);

describe("a backup", () => {
  test("that fails is logged with a remedy, counted and retried, and the previous backup is kept", async () => {
    const { service, lines, listMetrics } = createService({ newest: 1 });
    await service.isDue();
    await backdateSchedule("1 minute");
    await service.makeDueBackup(neverAborted);
    const [lastBackup = ""] = listBackups();
    expect(service.isHealthy()).toBe(true);

    const fullDiskInstance = createService({
      newest: 1,
      store: createFolderStore({ folder, findFreeBytesIn: async () => 1_000_000 }),
    });
    await backdateSchedule("1 minute");
    await fullDiskInstance.service.makeDueBackup(neverAborted);
    expect(listBackups()).toEqual([lastBackup]);
    expect(fullDiskInstance.lines.filter(({ level }) => level === "error")).toEqual([
      expect.objectContaining({
        msg: "scheduled backup failed; it will be retried",
        place: folder,
        failures: 1,
        retry_in_ms: 60_000,
        reason: expect.stringMatching(
          /^The disk of .+ has 1\.0 MB free, but the backup needs 13\d\.\d MB .+\. Free some space, .+$/,
        ),
      }),
    ]);
    expect((await fullDiskInstance.listMetrics()).join()).toContain('parley_backups_total{outcome="failure"} 1');
    expect(fullDiskInstance.service.isHealthy()).toBe(false);
    expect(await fullDiskInstance.service.isDue()).toBe(false);
    // The other instance reports the failure too.
    expect(await service.isDue()).toBe(false);
    expect(service.isHealthy()).toBe(false);
    await backdateSchedule("61 seconds");
    expect(await service.isDue()).toBe(true);
    await waitUntilNextSecond();
    await service.makeDueBackup(neverAborted);
    expect(service.isHealthy()).toBe(true);
    expect(listBackups()).toHaveLength(1);
    expect(listBackups()).not.toEqual([lastBackup]);
    expect(lines.filter(({ level }) => level === "error")).toEqual([]);
    expect((await listMetrics()).join()).toContain('parley_backups_total{outcome="success"} 2');
  }, 30_000);

  test.each([
    ["changed on disk", (bytes: Buffer) => bytes.fill(0xff, bytes.length - 60, bytes.length - 59)],
    ["truncated", (bytes: Buffer) => bytes.subarray(0, bytes.length - 1)],
  ])("fails if its file is %s, and the invalid file is deleted", async (_, corrupt) => {
    const { service } = createService({ newest: 1 });
    await service.isDue();
    await backdateSchedule("1 minute");
    await service.makeDueBackup(neverAborted);
    const lastBackup = listBackups();
    expect(lastBackup).toHaveLength(1);
    await waitUntilNextSecond();

    const folderStore = createFolderStore({ folder });
    const store: BackupStore = {
      ...folderStore,
      async read(name, bytes) {
        const content = readFileSync(join(folder, name));
        writeFileSync(join(folder, name), corrupt(content));
        return folderStore.read(name, bytes);
      },
    };
    const corruptingInstance = createService({ newest: 1, store });
    await backdateSchedule("1 minute");
    await corruptingInstance.service.makeDueBackup(neverAborted);
    expect(listBackups()).toEqual(lastBackup);
    expect(corruptingInstance.service.isHealthy()).toBe(false);
  });

  test("fails if BACKUP_DIR isn't a folder, but recreates a missing folder", async () => {
    const { service, lines } = createService();
    await service.isDue();
    rmSync(folder, { recursive: true });
    writeFileSync(folder, "");
    await backdateSchedule("1 minute");
    await service.makeDueBackup(neverAborted);
    expect(lines.find(({ level }) => level === "error")?.reason).toStartWith(`BACKUP_DIR ${folder} can't be used (`);
    rmSync(folder);
    await backdateSchedule("10 minutes");
    await service.makeDueBackup(neverAborted);
    expect(listBackups()).toHaveLength(1);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
  });

  test("fails before it uses up the database's disk space", async () => {
    let checkCount = 0;
    const findFreeBytesIn = async () => {
      checkCount += 1;
      return checkCount === 1 ? 1e12 : 100e6;
    };
    const { service, lines } = createService({
      store: createFolderStore({ folder, findFreeBytesIn, checkIntervalBytes: 5_000 }),
    });
    await service.isDue();
    await backdateSchedule("1 minute");
    await service.makeDueBackup(neverAborted);
    expect(checkCount).toBe(2);
    expect(lines.find(({ level }) => level === "error")?.reason).toMatch(/^The disk of .+ has 100\.0 MB free/);
    expect(listBackups()).toEqual([]);
  }, 60_000);
});

test("partial files of killed processes are removed, but not other files", async () => {
  const oldPartial = ".parley-20200101T000000Z-0123abcd.backup.77-0123abcd.partial";
  const newPartial = ".parley-20200102T000000Z-0123abcd.backup.77-0123abcd.partial";
  const otherFile = ".other.77-0123abcd.partial";
  for (const name of [oldPartial, newPartial, otherFile]) writeFileSync(join(folder, name), "half");
  mkdirSync(join(folder, ".parley-20200103T000000Z-0123abcd.backup.77-0123abcd.partial"));
  const anHourAgo = new Date(Date.now() - 3_600_000);
  for (const name of [oldPartial, otherFile]) utimesSync(join(folder, name), anHourAgo, anHourAgo);
  await createFolderStore({ folder }).prepare(null);
  expect(listBackups()).not.toContain(oldPartial);
  expect(listBackups()).toHaveLength(3);
});

test("a database clock that was a year ahead doesn't stop backups for a year", async () => {
  const { service } = createService({ pattern: NIGHTLY });
  await service.isDue();
  await backdateSchedule("-1 year");
  expect(await service.isDue()).toBe(false);
  await backdateSchedule("2 days");
  expect(await service.isDue()).toBe(true);
});
