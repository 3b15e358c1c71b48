import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDatabase } from "../../src/db/client.ts";
import { startEmbeddedPostgres } from "../../src/db/embedded.ts";
import { fillDatabase, summarizeTables, type TableSummaries } from "../backup/sample-data.ts";
import type { Account } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { silentLog } from "../support/log.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { startReceiver, verifySignature } from "../webhooks/receiver.ts";
import { range } from "./assemble-answer.ts";
import { openChat, waitForText } from "./chat.ts";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { getExecutableCopy } from "./executable.ts";
import { createInstallation, type Installation, type Parley } from "./installation.ts";
import { createContent, fetchHistory, startSender } from "./sender.ts";

setDefaultTimeout(300_000);

/** Maximum time until a new process completes an answer that a killed process left unfinished. */
const TAKEOVER_MAX_MS = 15_000;
const ROWS = 150_000;
const RSS_BYTES_MAX = 450_000_000;

let folder: string;
let server: DatabaseServer;
let mockProvider: MockProvider;
const installations: Installation[] = [];
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "parley-backups-"));
  server = await startDatabaseServer();
  mockProvider = startMockProvider();
});
afterAll(async () => {
  for (const installation of installations) await installation.remove();
  await mockProvider?.stop();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function createTestInstallation(env: Record<string, string> = {}): Promise<Installation> {
  const installation = await createInstallation({ env: { WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true", ...env } });
  installations.push(installation);
  return installation;
}

async function runCommand(installation: Installation, args: string[]): Promise<string> {
  const { code, stdout, stderr } = await installation.run(args);
  expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: "" });
  return stdout;
}

/** Returns the checksums of the tables in a stopped installation's embedded database. */
async function computeEmbeddedChecksums(installation: Installation): Promise<TableSummaries> {
  const postgres = await startEmbeddedPostgres({ dataDir: join(installation.directory, "data"), log: silentLog });
  const database = openDatabase({ target: postgres, poolSize: 1 });
  try {
    return await summarizeTables(database, ["sql_functions"]);
  } finally {
    await database.end({ timeout: 1 });
    await postgres.stop();
  }
}

async function computeServerChecksums(url: string): Promise<TableSummaries> {
  const database = openDatabase({ target: { url }, poolSize: 1 });
  try {
    return await summarizeTables(database, ["sql_functions"]);
  } finally {
    await database.end({ timeout: 1 });
  }
}

test("restoring a backup into a Postgres server and back into embedded Postgres keeps all rows and credentials", async () => {
  const sourceInstallation = await createTestInstallation();
  let parley = await sourceInstallation.start();
  const account = await parley.register("ada@example.com");
  const token = account.access_token;
  const conversation = await createConversation(parley, account);
  for (const content of ["one\ttab", "two\nzanzibars \\N", "three 漢字 🦜"])
    expect(
      (await parley.fetch(`/api/v1/conversations/${conversation.id}/messages`, { token, json: { content } })).status,
    ).toBe(201);
  const question = await parley.fetch(`/api/v1/conversations/${conversation.id}/messages`, {
    token,
    json: { content: "How do I connect a model?", reply: true },
  });
  expect(question.status).toBe(201);
  const apiKey = (await (
    await parley.fetch("/api/v1/api-keys", { token, json: { name: "k", scopes: ["conversations:read"] } })
  ).json()) as { key: string };
  const receiver = startReceiver();
  const webhook = (await (
    await parley.fetch("/api/v1/webhooks", { token, json: { url: receiver.url, events: ["message.created"] } })
  ).json()) as { secret: string };
  await waitUntilAnswersComplete(parley, account, conversation.id);
  expect((await parley.stop()).code).toBe(0);
  const checksums = await computeEmbeddedChecksums(sourceInstallation);
  expect(checksums.messages?.rows).toBe(5);

  const files = ["first", "second", "third"].map((name) => join(folder, `${name}.parley`)) as [string, string, string];
  const [firstFile, secondFile, thirdFile] = files;
  await runCommand(sourceInstallation, ["backup", firstFile]);
  const targetUrl = await server.createDatabase();
  const serverInstallation = await createTestInstallation({ DATABASE_URL: targetUrl });
  await runCommand(serverInstallation, ["restore", firstFile]);
  expect(await computeServerChecksums(targetUrl)).toEqual(checksums);
  await runCommand(serverInstallation, ["backup", secondFile]);
  const embeddedInstallation = await createTestInstallation();
  await runCommand(embeddedInstallation, ["restore", secondFile]);
  expect(await computeEmbeddedChecksums(embeddedInstallation)).toEqual(checksums);
  await runCommand(embeddedInstallation, ["backup", thirdFile]);
  const listTables = (stdout: string) => stdout.split("\n").filter((line) => line.startsWith("  "));
  const verifyOutputs = await Promise.all(files.map((file) => runCommand(embeddedInstallation, ["verify", file])));
  expect(listTables(verifyOutputs[0] ?? "").length).toBeGreaterThan(10);
  expect(verifyOutputs.map(listTables)).toEqual(
    [verifyOutputs[0], verifyOutputs[0], verifyOutputs[0]].map((stdout) => listTables(stdout ?? "")),
  );

  for (const installation of [serverInstallation, embeddedInstallation]) {
    parley = await installation.start();
    const profile = await parley.fetch("/api/v1/me", { token });
    expect(profile.status).toBe(200);
    const refreshed = await parley.fetch("/api/v1/auth/refresh", { json: { refresh_token: account.refresh_token } });
    expect(refreshed.status).toBe(200);
    const conversations = await parley.fetch("/api/v1/conversations", { headers: { "x-api-key": apiKey.key } });
    expect(((await conversations.json()) as { data: { id: string }[] }).data.map(({ id }) => id)).toEqual([
      conversation.id,
    ]);
    const receivedCountBefore = receiver.received.length;
    const { message } = (await (
      await parley.fetch(`/api/v1/conversations/${conversation.id}/messages`, { token, json: { content: "after" } })
    ).json()) as { message: { seq: number } };
    expect(message.seq).toBe(Math.max(...(await fetchEventSeqs(parley, account, conversation.id))));
    for (let attempts = 0; attempts < 300 && receiver.received.length === receivedCountBefore; attempts += 1)
      await Bun.sleep(50);
    const delivery = receiver.received.at(-1);
    if (!delivery) throw new Error("The webhook received no request.");
    verifySignature(webhook.secret, delivery);
    const searchResult = (await (await parley.fetch("/api/v1/search?q=zanzibars", { token })).json()) as {
      data: unknown[];
    };
    expect(searchResult.data).toHaveLength(1);
    // An outsider has no access to the restored conversation.
    const outsider = await parley.register();
    const path = `/api/v1/conversations/${conversation.id}/messages`;
    expect((await parley.fetch(path, { token: outsider.access_token })).status).toBe(404);
    expect((await parley.stop()).code).toBe(0);
  }
  await receiver.stop();
});

test("a backup under load contains all messages acknowledged before it started, and a restored instance completes the answers", async () => {
  const slowAnswer = { pieces: range(1, 400).map((n) => `word${n} `), pieceDelayMs: 50 };
  mockProvider.script("slow", slowAnswer, { pieces: ["the ", "rest."], pieceDelayMs: 10 });
  const env = { COMPATIBLE_BASE_URL: mockProvider.openaiUrl, AI_MODELS: "compatible/slow" };
  const installation = await createTestInstallation(env);
  let parley = await installation.start();
  const chat = await openChat(parley);
  const answerId = await chat.requestAnswer("compatible/slow");
  const { account } = chat;
  const conversations = [await createConversation(parley, account), await createConversation(parley, account)];
  const senders = conversations.map(({ id }, n) => ({ id, sender: startSender(parley, account, id, `s${n}`) }));
  await Bun.sleep(1_000);
  await waitForText(chat.socket, answerId, 200);

  const ackedIdsBefore = senders.map(({ sender }) => [...sender.ackedMessages.keys()]);
  const file = join(folder, "load.parley");
  await runCommand(installation, ["backup", file]);
  const ackedCountsAfter = senders.map(({ sender }) => sender.ackedMessages.size);
  for (const [n, ids] of ackedIdsBefore.entries()) expect(ackedCountsAfter[n]).toBeGreaterThan(ids.length);

  const postgresPid = installation.findPostgresPid();
  await parley.kill();
  if (postgresPid !== null) process.kill(postgresPid, "SIGKILL");
  await Promise.all([chat.socket.closed, ...senders.map(({ sender }) => sender.closed)]);
  rmSync(join(installation.directory, "data"), { recursive: true, force: true });

  await runCommand(installation, ["restore", file]);
  parley = await installation.start();
  const startedAtMs = performance.now();
  for (const [n, { id, sender }] of senders.entries()) {
    const history = await fetchHistory(parley, account, id);
    expect(history.map(({ seq }) => seq)).toEqual(range(1, history.length));
    const messagesByClientId = new Map(history.map((message) => [message.client_message_id, message]));
    expect(ackedIdsBefore[n]?.length).toBeGreaterThan(50);
    for (const clientId of ackedIdsBefore[n] ?? []) {
      expect(messagesByClientId.get(clientId)).toEqual(sender.ackedMessages.get(clientId));
      expect(messagesByClientId.get(clientId)?.content).toBe(createContent(clientId));
    }
  }
  const messages = await waitUntilAnswersComplete(parley, account, chat.conversationId);
  expect(performance.now() - startedAtMs).toBeLessThan(TAKEOVER_MAX_MS);
  expect(messages).toMatchObject([{ role: "user" }, { id: answerId, status: "complete", finish_reason: "stop" }]);
  const seqs = await fetchEventSeqs(parley, account, chat.conversationId);
  expect(seqs).toEqual(range(1, seqs.length));
  expect((await parley.stop()).code).toBe(0);
});

test("a killed restore leaves an empty database, and the next restore succeeds with bounded memory", async () => {
  const executable = await getExecutableCopy();
  const sourceUrl = await server.createDatabase();
  const source = await createTestInstallation({ DATABASE_URL: sourceUrl });
  await runCommand(source, ["migrate"]);
  const sourceDatabase = openDatabase({ target: { url: sourceUrl }, poolSize: 1, statementTimeoutMs: 0 });
  await sourceDatabase.unsafe("alter table members disable trigger user");
  await fillDatabase(sourceDatabase, { users: 10, messages: ROWS / 10 });
  await sourceDatabase.unsafe("update messages set content = content || repeat(md5(seq::text), 30)");
  await sourceDatabase.end();
  const file = join(folder, "large.parley");
  const backup = await measureCommand(executable, source, ["backup", file], { DATABASE_URL: sourceUrl });
  expect(backup.code).toBe(0);
  expect(backup.rssBytes).toBeLessThan(RSS_BYTES_MAX);

  const url = await server.createDatabase();
  const target = await createTestInstallation({ DATABASE_URL: url });
  // This connection's application name differs from an instance's, because a restore is rejected while instances are
  // connected.
  const database = openDatabase({ target: { url }, poolSize: 1, session: { application_name: "drill" } });
  const isRestoreConnected = async () =>
    (
      await database`
        select 1 from pg_stat_activity where datname = current_database() and application_name like 'parley %'`
    ).length > 0;
  const isRestoringMessages = async () =>
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
    while (!(await isRestoringMessages())) {
      if (child.exitCode !== null) throw new Error("The restore finished before it could be killed.");
      await Bun.sleep(5);
    }
    await Bun.sleep(round * 200);
    child.kill(round === 0 ? "SIGKILL" : "SIGINT");
    expect(await child.exited).not.toBe(0);
    // The connection stays open until Postgres has finished its current statement.
    while (await isRestoreConnected()) await Bun.sleep(50);
    expect(await summarizeTables(database)).toEqual({});
  }
  await database.end();
  const restored = await measureCommand(executable, target, ["restore", file], { DATABASE_URL: url });
  expect(restored.code).toBe(0);
  expect(restored.rssBytes).toBeLessThan(RSS_BYTES_MAX);
  expect(await computeServerChecksums(url)).toEqual(await computeServerChecksums(sourceUrl));
  console.log({
    backupMb: backup.rssBytes / 1e6,
    restoreMb: restored.rssBytes / 1e6,
    ms: [backup.durationMs, restored.durationMs],
  });
});

/** Runs a command, and measures its duration and peak memory. */
async function measureCommand(
  executable: string,
  installation: Installation,
  args: string[],
  env: Record<string, string>,
) {
  const startedAtMs = performance.now();
  const child = Bun.spawn([executable, ...args], {
    cwd: installation.directory,
    env: { PATH: process.env.PATH ?? "", ...env },
    stdio: ["ignore", "ignore", "inherit"],
  });
  let rssBytes = 0;
  while (child.exitCode === null) {
    rssBytes = Math.max(rssBytes, readPeakRssBytes(child.pid));
    await Promise.race([child.exited, Bun.sleep(20)]);
  }
  return { code: child.exitCode, rssBytes, durationMs: Math.round(performance.now() - startedAtMs) };
}

function readPeakRssBytes(pid: number): number {
  try {
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

type Message = { id: string; role: string; status: string };

/** Waits until no message in the conversation is streaming. Returns all messages. */
async function waitUntilAnswersComplete(parley: Parley, account: Account, conversationId: string): Promise<Message[]> {
  const deadlineMs = performance.now() + TAKEOVER_MAX_MS;
  for (;;) {
    const history = (await fetchHistory(parley, account, conversationId)) as unknown as Message[];
    if (!history.some(({ status }) => status === "streaming")) return history;
    if (performance.now() > deadlineMs) throw new Error(`Still streaming: ${JSON.stringify(history)}`);
    await Bun.sleep(100);
  }
}

/** Fetches the sequence numbers of all durable events in a conversation. */
async function fetchEventSeqs(parley: Parley, { access_token }: Account, conversationId: string): Promise<number[]> {
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
