import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDatabase } from "../../src/db/client.ts";
import { fillDatabase } from "../backup/sample-data.ts";
import { createConversation } from "../support/conversation.ts";
import { startDatabaseServer } from "./database-server.ts";
import { createInstallation, type Installation, type Parley } from "./installation.ts";

setDefaultTimeout(240_000);

const ROWS = 150_000;
const SEND_INTERVAL_MS = 10;

const cleanups: (() => unknown)[] = [];
afterAll(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function createFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "parley-scheduled-"));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function createTestInstallation(env: Record<string, string>): Promise<Installation> {
  const installation = await createInstallation({ env });
  cleanups.push(installation.remove);
  return installation;
}

const listBackups = (folder: string): string[] =>
  existsSync(folder)
    ? readdirSync(folder)
        .filter((name) => name.endsWith(".backup"))
        .sort()
    : [];

async function waitForBackups(folder: string, isEnough: (names: string[]) => boolean): Promise<string[]> {
  for (;;) {
    const names = listBackups(folder);
    if (isEnough(names)) return names;
    await Bun.sleep(20);
  }
}

const readMetric = async (parley: Parley, name: string): Promise<number | undefined> => {
  const [, value] = new RegExp(`^${name} (.+)$`, "m").exec(await (await parley.fetch("/metrics")).text()) ?? [];
  return value === undefined ? undefined : Number(value);
};

test("scheduled backups can be restored, and old backups are deleted", async () => {
  const folder = createFolder();
  const BACKUP_DIR = join(folder, "scheduled", "with a space");
  const installation = await createTestInstallation({ BACKUP_SCHEDULE: "* * * * * *", BACKUP_DIR, BACKUP_KEEP: "2" });
  let parley = await installation.start();
  const { access_token } = await parley.register("ada@example.com");
  const [firstBackup = ""] = await waitForBackups(BACKUP_DIR, (names) => names.length > 0);
  await waitForBackups(BACKUP_DIR, (names) => names.length === 2 && !names.includes(firstBackup));
  expect(await readMetric(parley, "parley_backup_size_bytes")).toBeGreaterThan(1_000);
  const lastSuccessS = await readMetric(parley, "parley_backup_last_success_timestamp_seconds");
  expect(Math.abs(Date.now() / 1_000 - (lastSuccessS ?? 0))).toBeLessThan(60);
  expect(await (await parley.fetch("/readyz?verbose")).text()).toContain("[+]backup ok\n");
  await parley.kill();

  // If the kill interrupted a backup, the incomplete file doesn't have the `.backup` extension.
  const [lastBackup = ""] = listBackups(BACKUP_DIR).reverse();
  const verified = await installation.run(["verify", join(BACKUP_DIR, lastBackup)]);
  expect({ code: verified.code, stderr: verified.stderr }).toEqual({ code: 0, stderr: "" });
  const restoredInstallation = await createTestInstallation({});
  expect((await restoredInstallation.run(["restore", join(BACKUP_DIR, lastBackup)])).code).toBe(0);
  parley = await restoredInstallation.start();
  expect((await parley.fetch("/api/v1/me", { token: access_token })).status).toBe(200);
  expect(await (await parley.fetch("/readyz?verbose")).text()).not.toContain("backup");
  expect((await parley.stop()).code).toBe(0);
});

test("a large backup doesn't block sends, is created by only one instance, and is retried after a kill", async () => {
  const server = await startDatabaseServer();
  cleanups.push(server.stop);
  const DATABASE_URL = await server.createDatabase();
  const BACKUP_DIR = createFolder();
  const env = {
    DATABASE_URL,
    BACKUP_SCHEDULE: "0 0 1 1 *",
    BACKUP_DIR,
    JWT_SECRET: "0123456789abcdefghijklmnopqrstuvwxyz",
  };
  const installation = await createTestInstallation(env);
  await installation.run(["migrate"]);
  const database = openDatabase({ target: { url: DATABASE_URL }, poolSize: 1, statementTimeoutMs: 0 });
  cleanups.push(() => database.end({ timeout: 1 }));
  await database.unsafe("alter table members disable trigger user");
  await fillDatabase(database, { users: 10, messages: ROWS / 10 });
  await database.unsafe("update messages set content = content || repeat(md5(seq::text), 30)");
  await database.unsafe("alter table members enable trigger user");
  let parley = await installation.start();
  const otherInstance = await installation.start();
  const account = await parley.register();
  const { id } = await createConversation(parley, account);
  while ((await database`select 1 from backup_schedule`).length === 0) await Bun.sleep(50);

  const sendMessage = async (n: number): Promise<number> => {
    const startedAtMs = performance.now();
    const response = await parley.fetch(`/api/v1/conversations/${id}/messages`, {
      token: account.access_token,
      json: { content: `message ${n}` },
    });
    expect(response.status).toBe(201);
    await response.text();
    return performance.now() - startedAtMs;
  };
  async function measureSends(shouldStop: () => boolean): Promise<number[]> {
    const durationsMs: number[] = [];
    for (let n = 0; !shouldStop(); n += 1) {
      durationsMs.push(await sendMessage(n));
      await Bun.sleep(SEND_INTERVAL_MS);
    }
    return durationsMs.sort((a, b) => a - b);
  }
  const warmupDeadlineMs = performance.now() + 1_000;
  await measureSends(() => performance.now() > warmupDeadlineMs);
  const quietDeadlineMs = performance.now() + 5_000;
  const quietDurationsMs = await measureSends(() => performance.now() > quietDeadlineMs);

  const makeBackupDue = () => database`update backup_schedule set done_until = now() - interval '2 years'`;
  await makeBackupDue();
  const isBackupInProgress = () => readdirSync(BACKUP_DIR).some((name) => name.endsWith(".partial"));
  while (!isBackupInProgress()) await Bun.sleep(5);
  const busyDurationsMs = await measureSends(() => listBackups(BACKUP_DIR).length > 0);
  const getQuantile = (sorted: number[], share: number) => Math.round(sorted[Math.floor(sorted.length * share)] ?? 0);
  console.log({
    quietMs: {
      sends: quietDurationsMs.length,
      p50: getQuantile(quietDurationsMs, 0.5),
      p99: getQuantile(quietDurationsMs, 0.99),
    },
    busyMs: {
      sends: busyDurationsMs.length,
      p50: getQuantile(busyDurationsMs, 0.5),
      p99: getQuantile(busyDurationsMs, 0.99),
    },
  });
  expect(busyDurationsMs.length).toBeGreaterThan(20);
  expect(getQuantile(busyDurationsMs, 0.99)).toBeLessThan(1_000);
  const [firstBackup = ""] = await waitForBackups(BACKUP_DIR, (names) => names.length > 0);
  const isBackupDone = async () =>
    (await database`select 1 from backup_schedule where name = ${firstBackup}`).length > 0;
  while (!(await isBackupDone())) await Bun.sleep(50);
  // Both instances report the backup, although only one created it.
  while ((await readMetric(parley, "parley_backup_size_bytes")) === undefined) await Bun.sleep(100);
  while ((await readMetric(otherInstance, "parley_backup_size_bytes")) === undefined) await Bun.sleep(100);
  const successCounts = [parley, otherInstance].map((instance) =>
    readMetric(instance, 'parley_backups_total\\{outcome="success"\\}'),
  );
  expect((await Promise.all(successCounts)).filter((count) => count === 1)).toHaveLength(1);
  expect((await otherInstance.stop()).code).toBe(0);

  await makeBackupDue();
  while (!isBackupInProgress()) await Bun.sleep(5);
  await parley.kill();
  expect(listBackups(BACKUP_DIR)).toEqual([firstBackup]);
  parley = await installation.start();
  const names = await waitForBackups(BACKUP_DIR, (backups) => backups.length === 2);
  expect((await installation.run(["verify", join(BACKUP_DIR, names[1] ?? "")])).code).toBe(0);

  // A shutdown during a backup leaves no partial file. The remaining partial file is from the kill.
  await makeBackupDue();
  while (readdirSync(BACKUP_DIR).filter((name) => name.endsWith(".partial")).length < 2) await Bun.sleep(5);
  expect((await parley.stop()).code).toBe(0);
  expect(readdirSync(BACKUP_DIR).filter((name) => name.endsWith(".partial"))).toHaveLength(1);
  expect(listBackups(BACKUP_DIR)).toEqual(names);
});
