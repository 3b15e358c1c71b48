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

const undo: (() => unknown)[] = [];
afterAll(async () => {
  for (const step of undo.splice(0).reverse()) await step();
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
  const [made, place] = [database, folder];
  undo.push(
    () => made.end({ timeout: 1 }),
    () => rmSync(place, { recursive: true, force: true }),
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

/** As if so much time had passed since the last one. */
const advanceClock = (interval: string) =>
  database`update backup_schedule set done_until = done_until - ${interval}::interval, retry_at = retry_at - ${interval}::interval`;

/** Names have seconds. */
const untilNextSecond = () => Bun.sleep(1_010 - (Date.now() % 1_000));

const listBackups = () => readdirSync(folder).sort();
const verifyFile = async (name: string, passphrase?: string) =>
  verifyBackup((await openBackupFile(join(folder, name))).source, { getPassphrase: async () => passphrase ?? "" });

test("the first start begins the schedule; what passes while nothing runs is made up for by one backup", async () => {
  await fillDatabase(database);
  const { service, readMetrics } = createService({ pattern: NIGHTLY });
  expect(await readMetrics()).toEqual([]);
  expect(await service.isDue()).toBe(false);
  expect(await service.isDue()).toBe(false);
  await advanceClock("3 days");
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
  // Another instance, that has made none, tells the same.
  const other = createService({ pattern: NIGHTLY });
  await other.service.isDue();
  expect((await other.readMetrics()).join()).toContain(`parley_backup_size_bytes ${statSync(join(folder, name)).size}`);
});

test("old ones go, those of others stay", async () => {
  const foreign = ["notes.txt", "parley-20200101T000000Z-00000000.backup", "parley.backup"];
  for (const name of foreign) writeFileSync(join(folder, name), name);
  const { service } = createService();
  await service.isDue();
  const made: string[] = [];
  for (let n = 0; n < 3; n += 1) {
    if (n > 0) await untilNextSecond();
    await advanceClock("1 minute");
    await service.makeDue(never);
    made.push(...listBackups().filter((name) => !foreign.includes(name) && !made.includes(name)));
  }
  expect(made).toHaveLength(3);
  expect(listBackups()).toEqual([...foreign, ...made.slice(-2)].sort());
  for (const name of foreign) expect(readFileSync(join(folder, name), "utf8")).toBe(name);
});

test("with a passphrase they are encrypted", async () => {
  const { service } = createService({ passphrase: "correct horse" });
  await service.isDue();
  await advanceClock("1 minute");
  await service.makeDue(never);
  const [name = ""] = listBackups();
  expect((await verifyFile(name, "correct horse")).isEncrypted).toBe(true);
  expect(readFileSync(join(folder, name)).includes("age-encryption")).toBe(true);
}, 60_000);

test("two instances make one backup; a stopped one leaves nothing, and the other makes it", async () => {
  const slow: BackupStore = createFolderStore({ folder });
  let open = 0;
  let most = 0;
  let writes = 0;
  let hold = true;
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
          while (hold) await Bun.sleep(5);
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
  await advanceClock("2 days");
  while (writes === 0) await Bun.sleep(5);
  await Bun.sleep(200);
  expect({ writes, most }).toEqual({ writes: 1, most: 1 });
  const [{ owner } = { owner: "" }] = await database<{ owner: string }[]>`select owner from jobs where key = 'backup'`;
  expect(owner).not.toBe("");
  hold = false;
  while (listBackups().filter((name) => name.endsWith(".backup")).length === 0) await Bun.sleep(5);
  await Bun.sleep(300);
  expect({ writes, most, open }).toEqual({ writes: 1, most: 1, open: 0 });

  // Stopped in the middle of the next one.
  hold = true;
  await advanceClock("2 days");
  while (writes === 1) await Bun.sleep(5);
  const [held] = await database<{ owner: string }[]>`select owner from jobs where key = 'backup'`;
  expect(held).toBeDefined();
  const stops = instances.map((jobs) => jobs.stop(Date.now() + 5_000));
  hold = false;
  await Promise.all(stops);
  expect(listBackups()).toHaveLength(1);
  const next = createService({ pattern: NIGHTLY });
  expect(await next.service.isDue()).toBe(true);
  await next.service.makeDue(never);
  expect(listBackups()).toHaveLength(2);
}, 30_000);

describe("a failure", () => {
  test("is logged with what to do, counted, shown, and tried again; the last good backup stays", async () => {
    const { service, lines, readMetrics } = createService({ newest: 1 });
    await service.isDue();
    await advanceClock("1 minute");
    await service.makeDue(never);
    const [good = ""] = listBackups();
    expect(service.isHealthy()).toBe(true);

    const full = createService({
      newest: 1,
      store: createFolderStore({ folder, findFree: async () => 1_000_000 }),
    });
    await advanceClock("1 minute");
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
    // The other instance tells it too.
    expect(await service.isDue()).toBe(false);
    expect(service.isHealthy()).toBe(false);
    await advanceClock("61 seconds");
    expect(await service.isDue()).toBe(true);
    await untilNextSecond();
    await service.makeDue(never);
    expect(service.isHealthy()).toBe(true);
    expect(listBackups()).toHaveLength(1);
    expect(listBackups()).not.toEqual([good]);
    expect(lines.filter(({ level }) => level === "error")).toEqual([]);
    expect((await readMetrics()).join()).toContain('parley_backups_total{outcome="success"} 2');
  }, 30_000);

  test.each([
    ["changed on the disk", (bytes: Buffer) => bytes.fill(0xff, bytes.length - 60, bytes.length - 59)],
    ["cut off", (bytes: Buffer) => bytes.subarray(0, bytes.length - 1)],
  ])("is a backup that was %s: it is removed, and the good one stays", async (_, spoil) => {
    const { service } = createService({ newest: 1 });
    await service.isDue();
    await advanceClock("1 minute");
    await service.makeDue(never);
    const good = listBackups();
    expect(good).toHaveLength(1);
    await untilNextSecond();

    const sound = createFolderStore({ folder });
    const store: BackupStore = {
      ...sound,
      async read(name, bytes) {
        const content = readFileSync(join(folder, name));
        writeFileSync(join(folder, name), spoil(content));
        return sound.read(name, bytes);
      },
    };
    const spoiled = createService({ newest: 1, store });
    await advanceClock("1 minute");
    await spoiled.service.makeDue(never);
    expect(listBackups()).toEqual(good);
    expect(spoiled.service.isHealthy()).toBe(false);
  });

  test("a folder that is no folder any more is named, and one that is gone is made again", async () => {
    const { service, lines } = createService();
    await service.isDue();
    rmSync(folder, { recursive: true });
    writeFileSync(folder, "");
    await advanceClock("1 minute");
    await service.makeDue(never);
    expect(lines.find(({ level }) => level === "error")?.reason).toStartWith(`BACKUP_DIR ${folder} can't be used (`);
    rmSync(folder);
    await advanceClock("10 minutes");
    await service.makeDue(never);
    expect(listBackups()).toHaveLength(1);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
  });

  test("a full disk ends the backup before the database has no room left", async () => {
    let looks = 0;
    const findFree = async () => {
      looks += 1;
      return looks === 1 ? 1e12 : 100e6;
    };
    const { service, lines } = createService({ store: createFolderStore({ folder, findFree, lookBytes: 5_000 }) });
    await service.isDue();
    await advanceClock("1 minute");
    await service.makeDue(never);
    expect(looks).toBe(2);
    expect(lines.find(({ level }) => level === "error")?.reason).toMatch(/^The disk of .+ has 100\.0 MB free/);
    expect(listBackups()).toEqual([]);
  }, 60_000);
});

test("what killed writers left is cleared away, what others have is not", async () => {
  const left = ".parley-20200101T000000Z-0123abcd.backup.77-0123abcd.partial";
  const fresh = ".parley-20200102T000000Z-0123abcd.backup.77-0123abcd.partial";
  const foreign = ".other.77-0123abcd.partial";
  for (const name of [left, fresh, foreign]) writeFileSync(join(folder, name), "half");
  mkdirSync(join(folder, ".parley-20200103T000000Z-0123abcd.backup.77-0123abcd.partial"));
  const longAgo = new Date(Date.now() - 3_600_000);
  for (const name of [left, foreign]) utimesSync(join(folder, name), longAgo, longAgo);
  await createFolderStore({ folder }).prepare(null);
  expect(listBackups()).not.toContain(left);
  expect(listBackups()).toHaveLength(3);
});

test("a database clock that was a year ahead doesn't stop backups for a year", async () => {
  const { service } = createService({ pattern: NIGHTLY });
  await service.isDue();
  await advanceClock("-1 year");
  expect(await service.isDue()).toBe(false);
  await advanceClock("2 days");
  expect(await service.isDue()).toBe(true);
});
