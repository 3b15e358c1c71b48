import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Account } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { createChatGptConversation, importFile } from "../support/imports.ts";
import { openInbox, type TestInbox, waitForInboxToMatchList } from "../support/inbox.ts";
import { startPgBouncer, type TestPgBouncer } from "../support/pgbouncer.ts";
import { startRedis, type TestRedis } from "../support/redis.ts";
import { waitUntil } from "../support/wait-until.ts";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(2 * TEST_TIMEOUT_MS);

/** Frames are sent a second apart, but can arrive closer together on a busy machine. */
const FRAME_INTERVAL_MS_MIN = 800;
const BURST_MESSAGES = 100;

let server: DatabaseServer;
let redis: TestRedis;
const cleanups: (() => Promise<unknown>)[] = [];
afterAll(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
});

async function startServers(): Promise<void> {
  if (server) return;
  server = await startDatabaseServer();
  cleanups.push(() => server.stop());
  redis = await startRedis();
  cleanups.push(() => redis.stop());
}

/** Creates the settings for two instances that share a database. */
async function createEnvironment(hasRedis: boolean, hasPooler: boolean): Promise<Record<string, string>> {
  await startServers();
  const url = new URL(await server.createDatabase());
  if (hasPooler) {
    const pooler: TestPgBouncer = await startPgBouncer({
      socketDirectory: server.socketDirectory,
      port: server.port,
      mode: "transaction",
      poolSize: 6,
      users: ["parley"],
    });
    cleanups.push(() => pooler.stop());
    url.port = String(pooler.port);
  }
  return {
    DATABASE_URL: url.href,
    JWT_SECRET: "a secret that only tests know: 0123456789",
    ADMIN_EMAIL: "admin@example.com",
    ADMIN_PASSWORD: "a password for tests",
    RATE_LIMIT_ENABLED: "false",
    ...(hasRedis && { REDIS_URL: redis.url }),
  };
}

type CallOptions = { token: string; method?: string; json?: unknown };

async function requestJson(parley: Parley, path: string, options: CallOptions): Promise<Record<string, unknown>> {
  const response = await parley.fetch(`/api/v1${path}`, options);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.status === 204 ? {} : ((await response.json()) as Record<string, unknown>);
}

/** Records the times at which a conversation's inbox frames arrive. */
function recordArrivalTimesMs({ socket }: TestInbox, conversationId: string): number[] {
  const timesMs: number[] = [];
  socket.addEventListener("message", ({ data }) => {
    const frame = JSON.parse(String(data)) as { type: string; conversation_id?: string };
    if (frame.type === "inbox" && frame.conversation_id === conversationId) timesMs.push(performance.now());
  });
  return timesMs;
}

const variants = [
  ["Postgres", false, false],
  ["Redis", true, false],
  ["PgBouncer in transaction mode", false, true],
  ["Redis and PgBouncer in transaction mode", true, true],
] as const;

describe.each(variants)("with two instances over %s", (_, hasRedis, hasPooler) => {
  let installation: Installation;
  let firstInstance: Parley;
  let secondInstance: Parley;
  let owner: Account;
  let guest: Account;
  /** The guest's devices, one per instance. */
  let devices: [TestInbox, TestInbox];
  let conversationId: string;

  const sendMessage = (content: string, json: object = {}) =>
    requestJson(firstInstance, `/conversations/${conversationId}/messages`, {
      token: owner.access_token,
      json: { content, reply: false, ...json },
    });
  const waitForInboxesToMatchLists = async () => {
    await waitForInboxToMatchList(devices[0], secondInstance);
    await waitForInboxToMatchList(devices[1], firstInstance);
  };

  test("a user's devices receive other users' changes", async () => {
    installation = await createInstallation({ env: await createEnvironment(hasRedis, hasPooler) });
    cleanups.push(() => installation.remove());
    // This setup isn't in `beforeAll`, because the timeout of `beforeAll` would be too short.
    expect((await installation.run(["migrate"])).code).toBe(0);
    [firstInstance, secondInstance] = await Promise.all([installation.start(), installation.start()]);
    [owner, guest] = [await firstInstance.register(), await secondInstance.register()];
    devices = [await openInbox(firstInstance, guest), await openInbox(secondInstance, guest)];
    expect(devices.map(({ unread }) => unread)).toEqual([0, 0]);
    const { id } = await createConversation(firstInstance, owner, [guest]);
    conversationId = id;
    for (const device of devices) await device.waitForChange({ conversation_id: id, change: "added", unread: 0 });
    await sendMessage("The first");
    for (const device of devices) await device.waitForChange({ conversation_id: id, change: "updated", unread: 1 });
    await waitForInboxesToMatchLists();
  });

  test("a burst of messages causes at most one frame per second, and the last frame is correct", async () => {
    const arrivalTimesMs = devices.map((device) => recordArrivalTimesMs(device, conversationId));
    for (let n = 0; n < BURST_MESSAGES; n += 1) await sendMessage(`Message ${n}`);
    for (const device of devices)
      await device.waitForChange({ conversation_id: conversationId, unread: BURST_MESSAGES + 1 });
    for (const [n, arrivalsMs] of arrivalTimesMs.entries()) {
      const intervalsMs = arrivalsMs.slice(1).map((ms, index) => ms - (arrivalsMs[index] ?? 0));
      expect([n, intervalsMs.filter((ms) => ms < FRAME_INTERVAL_MS_MIN)]).toEqual([n, []]);
    }
    await waitForInboxesToMatchLists();
  });

  test("reads, title changes, edits and deletions reach every device", async () => {
    const seq = devices[0].list(conversationId).at(-1)?.last_seq ?? 0;
    await devices[0].request({ type: "read", conversation_id: conversationId, seq });
    for (const device of devices)
      await device.waitForChange({ conversation_id: conversationId, unread: 0, last_read_seq: seq });
    const { message } = (await sendMessage("To be deleted")) as { message: { id: string } };
    for (const device of devices) await device.waitForChange({ conversation_id: conversationId, unread: 1 });
    const path = `/conversations/${conversationId}`;
    const token = owner.access_token;
    await requestJson(secondInstance, `${path}/messages/${message.id}`, {
      token,
      method: "PATCH",
      json: { content: "Edited" },
    });
    await requestJson(firstInstance, path, { token, method: "PATCH", json: { title: "New title" } });
    await requestJson(secondInstance, `${path}/messages/${message.id}`, { token, method: "DELETE" });
    for (const device of devices) await device.waitForChange({ title: "New title", unread: 0, last_seq: seq + 4 });
    await waitForInboxesToMatchLists();
  });

  test("conversations that the user creates or imports appear on every device", async () => {
    const createdConversation = await createConversation(secondInstance, guest, [], { title: "Created" });
    for (const device of devices)
      await device.waitForChange({ conversation_id: createdConversation.id, change: "added", title: "Created" });
    const finishedImport = await importFile(firstInstance, guest, "chatgpt", [
      createChatGptConversation("one", { a: {}, b: { text: "zeppelin" } }),
    ]);
    expect([finishedImport.status, finishedImport.imported]).toEqual(["done", 1]);
    for (const device of devices) await device.waitForChange({ change: "added", title: "Title of one", unread: 0 });
    await waitForInboxesToMatchLists();
  });

  test("search, analytics and cached reads work on both instances", async () => {
    await sendMessage("A rare word: quokka");
    for (const parley of [firstInstance, secondInstance]) {
      const { data } = await requestJson(parley, "/search?q=quokka", { token: guest.access_token });
      expect((data as unknown[]).length).toBe(1);
      // Imported messages are indexed in the background.
      await waitUntil(async () => {
        const result = await requestJson(parley, "/search?q=zeppelin", { token: guest.access_token });
        return (result.data as unknown[]).length === 1;
      });
    }
    const login = await firstInstance.fetch("/api/v1/auth/login", {
      json: { email: "admin@example.com", password: "a password for tests" },
    });
    const { access_token: token } = (await login.json()) as Account;
    // These are the owner's messages, except the deleted one, and the two imported messages.
    await waitUntil(async () => {
      const overview = await requestJson(secondInstance, "/analytics/overview?from=2020-01-01T00:00:00Z", { token });
      return JSON.stringify(overview).includes(`"messages":${BURST_MESSAGES + 4}`);
    });
    for (let n = 0; n < 5; n += 1) {
      const title = `Title ${n}`;
      const path = `/conversations/${conversationId}`;
      await requestJson(firstInstance, path, { token: owner.access_token, method: "PATCH", json: { title } });
      for (const parley of [firstInstance, secondInstance])
        expect((await requestJson(parley, path, { token: guest.access_token })).title).toBe(title);
    }
  });

  test("a removed member receives no more frames, and a logout closes the user's sockets", async () => {
    const path = `/conversations/${conversationId}`;
    const token = owner.access_token;
    await requestJson(secondInstance, `${path}/members/${guest.user.id}`, { token, method: "DELETE" });
    for (const device of devices)
      await device.waitForChange({ conversation_id: conversationId, change: "removed", title: "" });
    await sendMessage("Nobody else reads this");
    const { id: deletedId } = await createConversation(firstInstance, owner, [guest], { title: "Short" });
    for (const device of devices) await device.waitForChange({ conversation_id: deletedId, change: "added" });
    await requestJson(firstInstance, `/conversations/${deletedId}`, { token, method: "DELETE" });
    for (const device of devices) await device.waitForChange({ conversation_id: deletedId, change: "removed" });
    expect(devices.map((device) => device.list(conversationId).at(-1)?.change)).toEqual(["removed", "removed"]);
    await waitForInboxesToMatchLists();
    await requestJson(firstInstance, "/auth/logout", {
      token: guest.access_token,
      json: { refresh_token: guest.refresh_token },
    });
    await Promise.all(devices.map(({ closed }) => closed));
  });

  test("neither instance logs warnings or errors", () => {
    const lines = installation.readLog().match(/.*"level":"(?:warn|error|fatal)".*/g) ?? [];
    // Some warnings are expected on a busy machine or with a pooler.
    const expectedWarning = /LISTEN doesn't work|[Pp]ooler|slow query|the bus over \w+ is unavailable|timed out/;
    expect(lines.filter((line) => !expectedWarning.test(line))).toEqual([]);
    expect(installation.readLog()).not.toContain("a secret that only tests know");
  });
});
