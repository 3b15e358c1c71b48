import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDatabase } from "../../src/db/client.ts";
import { fillDatabase } from "../backup/sample-data.ts";
import { createConversation } from "../support/conversation.ts";
import { startDatabaseServer } from "./database-server.ts";
import { createSite, type Parley, type Site } from "./site.ts";

setDefaultTimeout(240_000);

const ROWS = 150_000;
const SEND_EVERY_MS = 10;

const cleanups: (() => unknown)[] = [];
afterAll(async () => {
  for (const step of cleanups.splice(0).reverse()) await step();
});

function createFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "parley-scheduled-"));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function openSite(env: Record<string, string>): Promise<Site> {
  const site = await createSite({ env });
  cleanups.push(site.remove);
  return site;
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

test("creates backups on schedule, deletes old ones, and they can be restored", async () => {
  const folder = createFolder();
  const BACKUP_DIR = join(folder, "made", "by itself");
  const site = await openSite({ BACKUP_SCHEDULE: "* * * * * *", BACKUP_DIR, BACKUP_KEEP: "2" });
  let parley = await site.start();
  const { access_token } = await parley.register("ada@example.com");
  const [first = ""] = await waitForBackups(BACKUP_DIR, (names) => names.length > 0);
  await waitForBackups(BACKUP_DIR, (names) => names.length === 2 && !names.includes(first));
  expect(await readMetric(parley, "parley_backup_size_bytes")).toBeGreaterThan(1_000);
  const lastS = await readMetric(parley, "parley_backup_last_success_timestamp_seconds");
  expect(Math.abs(Date.now() / 1_000 - (lastS ?? 0))).toBeLessThan(60);
  expect(await (await parley.fetch("/readyz?verbose")).text()).toContain("[+]backup ok\n");
  await parley.kill();

  // A backup in progress, if any, left no file with a backup's name.
  const [newest = ""] = listBackups(BACKUP_DIR).reverse();
  const verified = await site.run(["verify", join(BACKUP_DIR, newest)]);
  expect({ code: verified.code, errors: verified.errors }).toEqual({ code: 0, errors: "" });
  const other = await openSite({});
  expect((await other.run(["restore", join(BACKUP_DIR, newest)])).code).toBe(0);
  parley = await other.start();
  expect((await parley.fetch("/api/v1/me", { token: access_token })).status).toBe(200);
  expect(await (await parley.fetch("/readyz?verbose")).text()).not.toContain("backup");
  expect((await parley.stop()).code).toBe(0);
});

test("sends continue during a large backup; only one instance creates it, and another replaces a killed one's", async () => {
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
  const site = await openSite(env);
  await site.run(["migrate"]);
  const database = openDatabase({ target: { url: DATABASE_URL }, poolSize: 1, statementTimeoutMs: 0 });
  cleanups.push(() => database.end({ timeout: 1 }));
  await database.unsafe("alter table members disable trigger user");
  await fillDatabase(database, { users: 10, messages: ROWS / 10 });
  await database.unsafe("update messages set content = content || repeat(md5(seq::text), 30)");
  await database.unsafe("alter table members enable trigger user");
  let parley = await site.start();
  const second = await site.start();
  const account = await parley.register();
  const { id } = await createConversation(parley, account);
  while ((await database`select 1 from backup_schedule`).length === 0) await Bun.sleep(50);

  const send = async (n: number): Promise<number> => {
    const startedAtMs = performance.now();
    const response = await parley.fetch(`/api/v1/conversations/${id}/messages`, {
      token: account.access_token,
      json: { content: `message ${n}` },
    });
    expect(response.status).toBe(201);
    await response.text();
    return performance.now() - startedAtMs;
  };
  async function measureSends(until: () => boolean): Promise<number[]> {
    const tookMs: number[] = [];
    for (let n = 0; !until(); n += 1) {
      tookMs.push(await send(n));
      await Bun.sleep(SEND_EVERY_MS);
    }
    return tookMs.sort((a, b) => a - b);
  }
  const warmUntilMs = performance.now() + 1_000;
  await measureSends(() => performance.now() > warmUntilMs);
  const quietUntilMs = performance.now() + 5_000;
  const quiet = await measureSends(() => performance.now() > quietUntilMs);

  const due = () => database`update backup_schedule set done_until = now() - interval '2 years'`;
  await due();
  const isInProgress = () => readdirSync(BACKUP_DIR).some((name) => name.endsWith(".partial"));
  while (!isInProgress()) await Bun.sleep(5);
  const busy = await measureSends(() => listBackups(BACKUP_DIR).length > 0);
  const at = (sorted: number[], part: number) => Math.round(sorted[Math.floor(sorted.length * part)] ?? 0);
  console.log({
    quietMs: { sends: quiet.length, p50: at(quiet, 0.5), p99: at(quiet, 0.99) },
    busyMs: { sends: busy.length, p50: at(busy, 0.5), p99: at(busy, 0.99) },
  });
  expect(busy.length).toBeGreaterThan(20);
  expect(at(busy, 0.99)).toBeLessThan(1_000);
  const [one = ""] = await waitForBackups(BACKUP_DIR, (names) => names.length > 0);
  const isDone = async () => (await database`select 1 from backup_schedule where name = ${one}`).length > 0;
  while (!(await isDone())) await Bun.sleep(50);
  // Both instances report it, although one created it.
  while ((await readMetric(parley, "parley_backup_size_bytes")) === undefined) await Bun.sleep(100);
  while ((await readMetric(second, "parley_backup_size_bytes")) === undefined) await Bun.sleep(100);
  const made = [parley, second].map((each) => readMetric(each, 'parley_backups_total\\{outcome="success"\\}'));
  expect((await Promise.all(made)).filter((count) => count === 1)).toHaveLength(1);
  expect((await second.stop()).code).toBe(0);

  await due();
  while (!isInProgress()) await Bun.sleep(5);
  await parley.kill();
  expect(listBackups(BACKUP_DIR)).toEqual([one]);
  parley = await site.start();
  const names = await waitForBackups(BACKUP_DIR, (found) => found.length === 2);
  expect((await site.run(["verify", join(BACKUP_DIR, names[1] ?? "")])).code).toBe(0);

  // Stopped during a backup, it shuts down cleanly and leaves no file.
  await due();
  while (readdirSync(BACKUP_DIR).filter((name) => name.endsWith(".partial")).length < 2) await Bun.sleep(5);
  expect((await parley.stop()).code).toBe(0);
  expect(readdirSync(BACKUP_DIR).filter((name) => name.endsWith(".partial"))).toHaveLength(1);
  expect(listBackups(BACKUP_DIR)).toEqual(names);
});
