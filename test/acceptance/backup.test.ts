import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDatabase } from "../../src/db/client.ts";
import { startEmbeddedPostgres } from "../../src/db/embedded.ts";
import { fillDatabase, sumTables, type TableSums } from "../backup/sample-data.ts";
import type { Account } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { silentLog } from "../support/log.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { startReceiver, verify } from "../webhooks/receiver.ts";
import { openChat, waitForText } from "./chat.ts";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { findExecutable } from "./executable.ts";
import { contentOf, readHistory, startSender } from "./load.ts";
import { range } from "./reader.ts";
import { createSite, type Parley, type Site } from "./site.ts";

setDefaultTimeout(300_000);

/** From the contract: answers are taken over within this after their instance died. */
const TAKEOVER_MAX_MS = 15_000;
const ROWS_FOR_KILLS = 150_000;
const RSS_MAX_BYTES = 450_000_000;

let folder: string;
let server: DatabaseServer;
let mockProvider: MockProvider;
const sites: Site[] = [];
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "parley-backups-"));
  server = await startDatabaseServer();
  mockProvider = startMockProvider();
});
afterAll(async () => {
  for (const site of sites) await site.remove();
  await mockProvider?.stop();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function openSite(env: Record<string, string> = {}): Promise<Site> {
  const site = await createSite({ env: { WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true", ...env } });
  sites.push(site);
  return site;
}

async function run(site: Site, args: string[]): Promise<string> {
  const { code, output, errors } = await site.run(args);
  expect({ args, code, errors }).toEqual({ args, code: 0, errors: "" });
  return output;
}

/** Checksums of the tables in the embedded database of a stopped site. */
async function sumEmbedded(site: Site): Promise<TableSums> {
  const postgres = await startEmbeddedPostgres({ dataDir: join(site.directory, "data"), log: silentLog });
  const database = openDatabase({ target: postgres, poolSize: 1 });
  try {
    return await sumTables(database, ["sql_functions"]);
  } finally {
    await database.end({ timeout: 1 });
    await postgres.stop();
  }
}

async function sumServer(url: string): Promise<TableSums> {
  const database = openDatabase({ target: { url }, poolSize: 1 });
  try {
    return await sumTables(database, ["sql_functions"]);
  } finally {
    await database.end({ timeout: 1 });
  }
}

test("embedded → file → Postgres 15 → file → embedded: every row is identical, and every credential still works", async () => {
  const first = await openSite();
  let parley = await first.start();
  const account = await parley.register("ada@example.com");
  const token = account.access_token;
  const conversation = await createConversation(parley, account);
  for (const content of ["one\ttab", "two\nzanzibars \\N", "three 漢字 🦜"])
    expect(
      (await parley.fetch(`/api/v1/conversations/${conversation.id}/messages`, { token, json: { content } })).status,
    ).toBe(201);
  const asked = await parley.fetch(`/api/v1/conversations/${conversation.id}/messages`, {
    token,
    json: { content: "How do I connect a model?", reply: true },
  });
  expect(asked.status).toBe(201);
  const key = (await (
    await parley.fetch("/api/v1/api-keys", { token, json: { name: "k", scopes: ["conversations:read"] } })
  ).json()) as { key: string };
  const receiver = startReceiver();
  const webhook = (await (
    await parley.fetch("/api/v1/webhooks", { token, json: { url: receiver.url, events: ["message.created"] } })
  ).json()) as { secret: string };
  await waitUntilComplete(parley, account, conversation.id);
  expect((await parley.stop()).code).toBe(0);
  const sums = await sumEmbedded(first);
  expect(sums.messages?.rows).toBe(5);

  const [A, B, C] = ["a", "b", "c"].map((name) => join(folder, `${name}.parley`)) as [string, string, string];
  await run(first, ["backup", A]);
  const url = await server.createDatabase();
  const second = await openSite({ DATABASE_URL: url });
  await run(second, ["restore", A]);
  expect(await sumServer(url)).toEqual(sums);
  await run(second, ["backup", B]);
  const third = await openSite();
  await run(third, ["restore", B]);
  expect(await sumEmbedded(third)).toEqual(sums);
  await run(third, ["backup", C]);
  const tablesOf = (output: string) => output.split("\n").filter((line) => line.startsWith("  "));
  const verified = await Promise.all([A, B, C].map((file) => run(third, ["verify", file])));
  expect(tablesOf(verified[0] ?? "").length).toBeGreaterThan(10);
  expect(verified.map(tablesOf)).toEqual(
    [verified[0], verified[0], verified[0]].map((output) => tablesOf(output ?? "")),
  );

  for (const site of [second, third]) {
    parley = await site.start();
    const me = await parley.fetch("/api/v1/me", { token });
    expect(me.status).toBe(200);
    const refreshed = await parley.fetch("/api/v1/auth/refresh", { json: { refresh_token: account.refresh_token } });
    expect(refreshed.status).toBe(200);
    const listed = await parley.fetch("/api/v1/conversations", { headers: { "x-api-key": key.key } });
    expect(((await listed.json()) as { data: { id: string }[] }).data.map(({ id }) => id)).toEqual([conversation.id]);
    const before = receiver.received.length;
    const { message } = (await (
      await parley.fetch(`/api/v1/conversations/${conversation.id}/messages`, { token, json: { content: "after" } })
    ).json()) as { message: { seq: number } };
    expect(message.seq).toBe(Math.max(...(await readEventSeqs(parley, account, conversation.id))));
    for (let attempts = 0; attempts < 300 && receiver.received.length === before; attempts += 1) await Bun.sleep(50);
    const delivered = receiver.received.at(-1);
    if (!delivered) throw new Error("The webhook received no request.");
    verify(webhook.secret, delivered);
    const found = (await (await parley.fetch("/api/v1/search?q=zanzibars", { token })).json()) as { data: unknown[] };
    expect(found.data).toHaveLength(1);
    // An outsider still finds nothing.
    const outsider = await parley.register();
    const path = `/api/v1/conversations/${conversation.id}/messages`;
    expect((await parley.fetch(path, { token: outsider.access_token })).status).toBe(404);
    expect((await parley.stop()).code).toBe(0);
  }
  await receiver.stop();
});

test("a backup under load, then a kill and a restore: everything acknowledged before is there, and answers complete", async () => {
  const slow = { pieces: range(1, 400).map((n) => `word${n} `), pieceDelayMs: 50 };
  mockProvider.script("slow", slow, { pieces: ["the ", "rest."], pieceDelayMs: 10 });
  const env = { COMPATIBLE_BASE_URL: mockProvider.openaiUrl, AI_MODELS: "compatible/slow" };
  const site = await openSite(env);
  let parley = await site.start();
  const chat = await openChat(parley);
  const answerId = await chat.ask("compatible/slow");
  const { account } = chat;
  const conversations = [await createConversation(parley, account), await createConversation(parley, account)];
  const senders = conversations.map(({ id }, n) => ({ id, sender: startSender(parley, account, id, `s${n}`) }));
  await Bun.sleep(1_000);
  await waitForText(chat.socket, answerId, 200);

  const before = senders.map(({ sender }) => [...sender.acked.keys()]);
  const file = join(folder, "load.parley");
  await run(site, ["backup", file]);
  const during = senders.map(({ sender }) => sender.acked.size);
  for (const [n, ids] of before.entries()) expect(during[n]).toBeGreaterThan(ids.length);

  const postgres = site.findPostgres();
  await parley.kill();
  if (postgres !== null) process.kill(postgres, "SIGKILL");
  await Promise.all([chat.socket.closed, ...senders.map(({ sender }) => sender.closed)]);
  rmSync(join(site.directory, "data"), { recursive: true, force: true });

  await run(site, ["restore", file]);
  parley = await site.start();
  const startedAtMs = performance.now();
  for (const [n, { id, sender }] of senders.entries()) {
    const history = await readHistory(parley, account, id);
    expect(history.map(({ seq }) => seq)).toEqual(range(1, history.length));
    const byId = new Map(history.map((message) => [message.client_message_id, message]));
    expect(before[n]?.length).toBeGreaterThan(50);
    for (const clientId of before[n] ?? []) {
      expect(byId.get(clientId)).toEqual(sender.acked.get(clientId));
      expect(byId.get(clientId)?.content).toBe(contentOf(clientId));
    }
  }
  const answer = await waitUntilComplete(parley, account, chat.conversationId);
  expect(performance.now() - startedAtMs).toBeLessThan(TAKEOVER_MAX_MS);
  expect(answer).toMatchObject([{ role: "user" }, { id: answerId, status: "complete", finish_reason: "stop" }]);
  const seqs = await readEventSeqs(parley, account, chat.conversationId);
  expect(seqs).toEqual(range(1, seqs.length));
  expect((await parley.stop()).code).toBe(0);
});

test("a killed restore leaves an empty database that the next restore fills; memory stays bounded", async () => {
  const executable = await findExecutable();
  const origin = await server.createDatabase();
  const source = await openSite({ DATABASE_URL: origin });
  await run(source, ["migrate"]);
  const filling = openDatabase({ target: { url: origin }, poolSize: 1, statementTimeoutMs: 0 });
  await filling.unsafe("alter table members disable trigger user");
  await fillDatabase(filling, { users: 10, messages: ROWS_FOR_KILLS / 10 });
  await filling.unsafe("update messages set content = content || repeat(md5(seq::text), 30)");
  await filling.end();
  const file = join(folder, "large.parley");
  const backup = await measure(executable, source, ["backup", file], { DATABASE_URL: origin });
  expect(backup.code).toBe(0);
  expect(backup.rssBytes).toBeLessThan(RSS_MAX_BYTES);

  const url = await server.createDatabase();
  const target = await openSite({ DATABASE_URL: url });
  // Not named like a Parley instance: a restore refuses databases with Parley instances connected.
  const database = openDatabase({ target: { url }, poolSize: 1, session: { application_name: "drill" } });
  const isConnected = async () =>
    (
      await database`
        select 1 from pg_stat_activity where datname = current_database() and application_name like 'parley %'`
    ).length > 0;
  const isBusy = async () =>
    (
      await database`
        select 1 from pg_stat_activity where datname = current_database() and state = 'active'
          and (query like 'copy "messages"%' or query like 'CREATE%messages%')`
    ).length > 0;
  for (let round = 0; round < 2; round += 1) {
    const child = Bun.spawn([executable, "restore", file], {
      cwd: target.directory,
      env: { PATH: process.env.PATH ?? "", DATABASE_URL: url },
      stdio: ["ignore", "ignore", "inherit"],
    });
    while (!(await isBusy())) {
      if (child.exitCode !== null) throw new Error("The restore ended before it could be killed.");
      await Bun.sleep(5);
    }
    await Bun.sleep(round * 200);
    child.kill(round === 0 ? "SIGKILL" : "SIGINT");
    expect(await child.exited).not.toBe(0);
    // Postgres finishes its current statement first.
    while (await isConnected()) await Bun.sleep(50);
    expect(await sumTables(database)).toEqual({});
  }
  await database.end();
  const restored = await measure(executable, target, ["restore", file], { DATABASE_URL: url });
  expect(restored.code).toBe(0);
  expect(restored.rssBytes).toBeLessThan(RSS_MAX_BYTES);
  expect(await sumServer(url)).toEqual(await sumServer(origin));
  console.log({
    backupMb: backup.rssBytes / 1e6,
    restoreMb: restored.rssBytes / 1e6,
    ms: [backup.tookMs, restored.tookMs],
  });
});

/** Runs a command and measures its peak memory. */
async function measure(executable: string, site: Site, args: string[], env: Record<string, string>) {
  const startedAtMs = performance.now();
  const child = Bun.spawn([executable, ...args], {
    cwd: site.directory,
    env: { PATH: process.env.PATH ?? "", ...env },
    stdio: ["ignore", "ignore", "inherit"],
  });
  let rssBytes = 0;
  while (child.exitCode === null) {
    rssBytes = Math.max(rssBytes, readPeakBytes(child.pid));
    await Promise.race([child.exited, Bun.sleep(20)]);
  }
  return { code: child.exitCode, rssBytes, tookMs: Math.round(performance.now() - startedAtMs) };
}

function readPeakBytes(pid: number): number {
  try {
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

type Message = { id: string; role: string; status: string };

/** Waits until no message of the conversation is streaming, then returns them. */
async function waitUntilComplete(parley: Parley, account: Account, conversationId: string): Promise<Message[]> {
  const deadlineMs = performance.now() + TAKEOVER_MAX_MS;
  for (;;) {
    const history = (await readHistory(parley, account, conversationId)) as unknown as Message[];
    if (!history.some(({ status }) => status === "streaming")) return history;
    if (performance.now() > deadlineMs) throw new Error(`Still streaming: ${JSON.stringify(history)}`);
    await Bun.sleep(100);
  }
}

/** The sequence numbers of all durable events of a conversation. */
async function readEventSeqs(parley: Parley, { access_token }: Account, conversationId: string): Promise<number[]> {
  const seqs: number[] = [];
  for (;;) {
    const path = `/api/v1/conversations/${conversationId}/events?after_seq=${seqs.at(-1) ?? 0}`;
    const response = await parley.fetch(path, { token: access_token });
    if (response.status !== 200) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    const { data } = (await response.json()) as { data: { seq: number }[] };
    if (data.length === 0) return seqs;
    seqs.push(...data.map(({ seq }) => seq));
  }
}
