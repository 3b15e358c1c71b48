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
import { createJobs } from "../../src/jobs/runner.ts";
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
  for (const step of cleanups.splice(0).reverse()) await step();
});

const secret = { value: "the secret of the tests, of 32 bytes and more", isConfigured: false };
const never = new AbortController().signal;
const SECONDLY = "* * * * * *";
const NIGHTLY = "15 2 * * *";

let database: Database;
let folder: string;
beforeEach(async () => {
  const created = await createTestDatabase();
  database = created.database;
  folder = mkdtempSync(join(tmpdir(), "parley-schedule-"));
  const [made, path] = [database, folder];
  cleanups.push(
    () => made.end({ timeout: 1 }),
    () => rmSync(path, { recursive: true, force: true }),
  );
});

type Options = { pattern?: string; store?: BackupStore; newest?: number; passphrase?: string };

function createService({ pattern = SECONDLY, store, newest = 2, passphrase }: Options = {}) {
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
  const readMetrics = async () =>
    (await metrics.registry.metrics()).split("\n").filter((line) => line.startsWith("parley_backup"));
  return { service, lines, readMetrics };
}

/** Backdates the last backup. */
const passTime = (interval: string) =>
  database`update backup_schedule set done_until = done_until - ${interval}::interval, retry_at = retry_at - ${interval}::interval`;

/** Backup names contain the time in seconds. */
const waitUntilNextSecond = () => Bun.sleep(1_010 - (Date.now() % 1_000));

const listBackups = () => readdirSync(folder).sort();
const verifyFile = async (name: string, passphrase?: string) =>
  verifyBackup((await openBackupFile(join(folder, name))).source, { getPassphrase: async () => passphrase ?? "" });

test("the first start begins the schedule; missed backups while nothing runs are replaced by one", async () => {
  await fillDatabase(database);
  const { service, readMetrics } = createService({ pattern: NIGHTLY });
  expect(await readMetrics()).toEqual([]);
  expect(await service.isDue()).toBe(false);
  expect(await service.isDue()).toBe(false);
  await passTime("3 days");
  expect(await service.isDue()).toBe(true);
  await service.makeDue(never);
  const [name = "", ...others] = listBackups();
  expect(others).toEqual([]);
  expect(name).toMatch(/^parley-\d{8}T\d{6}Z-[0-9a-f]{8}\.backup$/);
  expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600);
  expect(await verifyFile(name)).toMatchObject({ isEncrypted: false, jwtSecret: { state: "included" } });
  expect(await service.isDue()).toBe(false);
  await service.makeDue(never);
  expect(listBackups()).toEqual([name]);
  expect(await readMetrics()).toEqual([
    expect.stringMatching(/^parley_backup_last_success_timestamp_seconds 1[78]\d{8}/),
    `parley_backup_size_bytes ${statSync(join(folder, name)).size}`,
    'parley_backups_total{outcome="success"} 1',
  ]);
  // Another instance, which made none, reports the same.
  const other = createService({ pattern: NIGHTLY });
  await other.service.isDue();
  expect((await other.readMetrics()).join()).toContain(`parley_backup_size_bytes ${statSync(join(folder, name)).size}`);
});

test("deletes old backups, but none of other databases", async () => {
  const foreign = ["notes.txt", "parley-20200101T000000Z-00000000.backup", "parley.backup"];
  for (const name of foreign) writeFileSync(join(folder, name), name);
  const { service } = createService();
  await service.isDue();
  const made: string[] = [];
  for (let n = 0; n < 3; n += 1) {
    if (n > 0) await waitUntilNextSecond();
    await passTime("1 minute");
    await service.makeDue(never);
    made.push(...listBackups().filter((name) => !foreign.includes(name) && !made.includes(name)));
  }
  expect(made).toHaveLength(3);
  expect(listBackups()).toEqual([...foreign, ...made.slice(-2)].sort());
  for (const name of foreign) expect(readFileSync(join(folder, name), "utf8")).toBe(name);
});

test("encrypts backups with a passphrase", async () => {
  const { service } = createService({ passphrase: "correct horse" });
  await service.isDue();
  await passTime("1 minute");
  await service.makeDue(never);
  const [name = ""] = listBackups();
  expect((await verifyFile(name, "correct horse")).isEncrypted).toBe(true);
  expect(readFileSync(join(folder, name)).includes("age-encryption")).toBe(true);
}, 60_000);

test("two instances make one backup; a stopped one leaves nothing behind, and the other makes it", async () => {
  const slow: BackupStore = createFolderStore({ folder });
  let open = 0;
  let most = 0;
  let writes = 0;
  let isBlocked = true;
  const store: BackupStore = {
    ...slow,
    async create(name) {
      const file = await slow.create(name);
      open += 1;
      writes += 1;
      most = Math.max(most, open);
      const close = () => {
        open -= 1;
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
      const jobs = createJobs({ database, log: silentLog, instanceId: createId() });
      registerBackupJobs(
        { ...jobs, everyOnOne: (name, _, job, isDue) => jobs.everyOnOne(name, 20, job, isDue) },
        { backups: service },
      );
      return jobs;
    },
  );
  for (const jobs of instances) jobs.start();
  while ((await database`select 1 from backup_schedule`).length === 0) await Bun.sleep(5);
  await passTime("2 days");
  while (writes === 0) await Bun.sleep(5);
  await Bun.sleep(200);
  expect({ writes, most }).toEqual({ writes: 1, most: 1 });
  const [{ owner } = { owner: "" }] = await database<{ owner: string }[]>`select owner from jobs where key = 'backup'`;
  expect(owner).not.toBe("");
  isBlocked = false;
  while (listBackups().filter((name) => name.endsWith(".backup")).length === 0) await Bun.sleep(5);
  await Bun.sleep(300);
  expect({ writes, most, open }).toEqual({ writes: 1, most: 1, open: 0 });

  // Stopped in the middle of the next one.
  isBlocked = true;
  await passTime("2 days");
  while (writes === 1) await Bun.sleep(5);
  const [held] = await database<{ owner: string }[]>`select owner from jobs where key = 'backup'`;
  expect(held).toBeDefined();
  const stops = instances.map((jobs) => jobs.stop(Date.now() + 5_000));
  isBlocked = false;
  await Promise.all(stops);
  expect(listBackups()).toHaveLength(1);
  const next = createService({ pattern: NIGHTLY });
  expect(await next.service.isDue()).toBe(true);
  await next.service.makeDue(never);
  expect(listBackups()).toHaveLength(2);
}, 30_000);

describe("a failure", () => {
  test("is logged with a remedy, counted, shown, and retried; the last good backup stays", async () => {
    const { service, lines, readMetrics } = createService({ newest: 1 });
    await service.isDue();
    await passTime("1 minute");
    await service.makeDue(never);
    const [good = ""] = listBackups();
    expect(service.isHealthy()).toBe(true);

    const full = createService({
      newest: 1,
      store: createFolderStore({ folder, findFree: async () => 1_000_000 }),
    });
    await passTime("1 minute");
    await full.service.makeDue(never);
    expect(listBackups()).toEqual([good]);
    expect(full.lines.filter(({ level }) => level === "error")).toEqual([
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
    expect((await full.readMetrics()).join()).toContain('parley_backups_total{outcome="failure"} 1');
    expect(full.service.isHealthy()).toBe(false);
    expect(await full.service.isDue()).toBe(false);
    // The other instance reports it too.
    expect(await service.isDue()).toBe(false);
    expect(service.isHealthy()).toBe(false);
    await passTime("61 seconds");
    expect(await service.isDue()).toBe(true);
    await waitUntilNextSecond();
    await service.makeDue(never);
    expect(service.isHealthy()).toBe(true);
    expect(listBackups()).toHaveLength(1);
    expect(listBackups()).not.toEqual([good]);
    expect(lines.filter(({ level }) => level === "error")).toEqual([]);
    expect((await readMetrics()).join()).toContain('parley_backups_total{outcome="success"} 2');
  }, 30_000);

  test.each([
    ["changed on disk", (bytes: Buffer) => bytes.fill(0xff, bytes.length - 60, bytes.length - 59)],
    ["truncated", (bytes: Buffer) => bytes.subarray(0, bytes.length - 1)],
  ])("is a backup that was %s: it is removed, and the good one stays", async (_, damage) => {
    const { service } = createService({ newest: 1 });
    await service.isDue();
    await passTime("1 minute");
    await service.makeDue(never);
    const good = listBackups();
    expect(good).toHaveLength(1);
    await waitUntilNextSecond();

    const sound = createFolderStore({ folder });
    const store: BackupStore = {
      ...sound,
      async read(name, bytes) {
        const content = readFileSync(join(folder, name));
        writeFileSync(join(folder, name), damage(content));
        return sound.read(name, bytes);
      },
    };
    const spoiled = createService({ newest: 1, store });
    await passTime("1 minute");
    await spoiled.service.makeDue(never);
    expect(listBackups()).toEqual(good);
    expect(spoiled.service.isHealthy()).toBe(false);
  });

  test("names a folder that is no longer a folder, and recreates a missing one", async () => {
    const { service, lines } = createService();
    await service.isDue();
    rmSync(folder, { recursive: true });
    writeFileSync(folder, "");
    await passTime("1 minute");
    await service.makeDue(never);
    expect(lines.find(({ level }) => level === "error")?.reason).toStartWith(`BACKUP_DIR ${folder} can't be used (`);
    rmSync(folder);
    await passTime("10 minutes");
    await service.makeDue(never);
    expect(listBackups()).toHaveLength(1);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
  });

  test("a full disk stops the backup before the database runs out of space", async () => {
    let checks = 0;
    const findFree = async () => {
      checks += 1;
      return checks === 1 ? 1e12 : 100e6;
    };
    const { service, lines } = createService({
      store: createFolderStore({ folder, findFree, checkEveryBytes: 5_000 }),
    });
    await service.isDue();
    await passTime("1 minute");
    await service.makeDue(never);
    expect(checks).toBe(2);
    expect(lines.find(({ level }) => level === "error")?.reason).toMatch(/^The disk of .+ has 100\.0 MB free/);
    expect(listBackups()).toEqual([]);
  }, 60_000);
});

test("leftovers of killed writers are removed, other files are not", async () => {
  const left = ".parley-20200101T000000Z-0123abcd.backup.77-0123abcd.partial";
  const fresh = ".parley-20200102T000000Z-0123abcd.backup.77-0123abcd.partial";
  const foreign = ".other.77-0123abcd.partial";
  for (const name of [left, fresh, foreign]) writeFileSync(join(folder, name), "half");
  mkdirSync(join(folder, ".parley-20200103T000000Z-0123abcd.backup.77-0123abcd.partial"));
  const anHourAgo = new Date(Date.now() - 3_600_000);
  for (const name of [left, foreign]) utimesSync(join(folder, name), anHourAgo, anHourAgo);
  await createFolderStore({ folder }).prepare(null);
  expect(listBackups()).not.toContain(left);
  expect(listBackups()).toHaveLength(3);
});

test("a database clock that was a year ahead doesn't stop backups for a year", async () => {
  const { service } = createService({ pattern: NIGHTLY });
  await service.isDue();
  await passTime("-1 year");
  expect(await service.isDue()).toBe(false);
  await passTime("2 days");
  expect(await service.isDue()).toBe(true);
});
