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

/** Creates the settings of two instances that share a database. */
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
    ADMIN_PASSWORD: "a password of the tests",
    RATE_LIMIT_ENABLED: "false",
    ...(hasRedis && { REDIS_URL: redis.url }),
  };
}

type CallOptions = { token: string; method?: string; json?: unknown };

async function call(parley: Parley, path: string, options: CallOptions): Promise<Record<string, unknown>> {
  const response = await parley.fetch(`/api/v1${path}`, options);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.status === 204 ? {} : ((await response.json()) as Record<string, unknown>);
}

/** Records the times at which a conversation's inbox frames arrive. */
function recordFrameTimes({ socket }: TestInbox, conversationId: string): number[] {
  const times: number[] = [];
  socket.addEventListener("message", ({ data }) => {
    const frame = JSON.parse(String(data)) as { type: string; conversation_id?: string };
    if (frame.type === "inbox" && frame.conversation_id === conversationId) times.push(performance.now());
  });
  return times;
}

const variants = [
  ["Postgres", false, false],
  ["Redis", true, false],
  ["PgBouncer in transaction mode", false, true],
  ["Redis and PgBouncer in transaction mode", true, true],
] as const;

describe.each(variants)("with two instances over %s", (_, hasRedis, hasPooler) => {
  let installation: Installation;
  let first: Parley;
  let second: Parley;
  let owner: Account;
  let guest: Account;
  /** The guest's devices, one per instance. */
  let devices: [TestInbox, TestInbox];
  let conversationId: string;

  const send = (content: string, json: object = {}) =>
    call(first, `/conversations/${conversationId}/messages`, {
      token: owner.access_token,
      json: { content, reply: false, ...json },
    });
  const waitForInboxesToMatchLists = async () => {
    await waitForInboxToMatchList(devices[0], second);
    await waitForInboxToMatchList(devices[1], first);
  };

  test("a user's devices receive other users' changes", async () => {
    installation = await createInstallation({ env: await createEnvironment(hasRedis, hasPooler) });
    cleanups.push(() => installation.remove());
    // `beforeAll` would have a shorter timeout.
    expect((await installation.run(["migrate"])).code).toBe(0);
    [first, second] = await Promise.all([installation.start(), installation.start()]);
    [owner, guest] = [await first.register(), await second.register()];
    devices = [await openInbox(first, guest), await openInbox(second, guest)];
    expect(devices.map(({ unread }) => unread)).toEqual([0, 0]);
    const { id } = await createConversation(first, owner, [guest]);
    conversationId = id;
    for (const device of devices) await device.waitForChange({ conversation_id: id, change: "added", unread: 0 });
    await send("The first");
    for (const device of devices) await device.waitForChange({ conversation_id: id, change: "updated", unread: 1 });
    await waitForInboxesToMatchLists();
  });

  test("a burst of messages causes at most one frame per second, and the last frame is correct", async () => {
    const times = devices.map((device) => recordFrameTimes(device, conversationId));
    for (let n = 0; n < BURST_MESSAGES; n += 1) await send(`Message ${n}`);
    for (const device of devices)
      await device.waitForChange({ conversation_id: conversationId, unread: BURST_MESSAGES + 1 });
    for (const [n, arrivalsMs] of times.entries()) {
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
    const { message } = (await send("To be deleted")) as { message: { id: string } };
    for (const device of devices) await device.waitForChange({ conversation_id: conversationId, unread: 1 });
    const path = `/conversations/${conversationId}`;
    const token = owner.access_token;
    await call(second, `${path}/messages/${message.id}`, { token, method: "PATCH", json: { content: "Edited" } });
    await call(first, path, { token, method: "PATCH", json: { title: "Another title" } });
    await call(second, `${path}/messages/${message.id}`, { token, method: "DELETE" });
    for (const device of devices) await device.waitForChange({ title: "Another title", unread: 0, last_seq: seq + 4 });
    await waitForInboxesToMatchLists();
  });

  test("conversations that the user creates or imports appear on every device", async () => {
    const created = await createConversation(second, guest, [], { title: "Created" });
    for (const device of devices)
      await device.waitForChange({ conversation_id: created.id, change: "added", title: "Created" });
    const imported = await importFile(first, guest, "chatgpt", [
      createChatGptConversation("one", { a: {}, b: { text: "zeppelin" } }),
    ]);
    expect([imported.status, imported.imported]).toEqual(["done", 1]);
    for (const device of devices) await device.waitForChange({ change: "added", title: "Title of one", unread: 0 });
    await waitForInboxesToMatchLists();
  });

  test("search, analytics and cached reads work on both instances", async () => {
    await send("A rare word: quokka");
    for (const parley of [first, second]) {
      const { data } = await call(parley, "/search?q=quokka", { token: guest.access_token });
      expect((data as unknown[]).length).toBe(1);
      // Imported messages are indexed in the background.
      await waitUntil(async () => {
        const found = await call(parley, "/search?q=zeppelin", { token: guest.access_token });
        return (found.data as unknown[]).length === 1;
      });
    }
    const login = await first.fetch("/api/v1/auth/login", {
      json: { email: "admin@example.com", password: "a password of the tests" },
    });
    const { access_token: token } = (await login.json()) as Account;
    // The owner's messages without the deleted one, and the two imported messages.
    await waitUntil(async () => {
      const overview = await call(second, "/analytics/overview?from=2020-01-01T00:00:00Z", { token });
      return JSON.stringify(overview).includes(`"messages":${BURST_MESSAGES + 4}`);
    });
    for (let n = 0; n < 5; n += 1) {
      const title = `Title ${n}`;
      const path = `/conversations/${conversationId}`;
      await call(first, path, { token: owner.access_token, method: "PATCH", json: { title } });
      for (const parley of [first, second])
        expect((await call(parley, path, { token: guest.access_token })).title).toBe(title);
    }
  });

  test("removed members receive no more frames, and a logout closes the sockets", async () => {
    const path = `/conversations/${conversationId}`;
    const token = owner.access_token;
    await call(second, `${path}/members/${guest.user.id}`, { token, method: "DELETE" });
    for (const device of devices)
      await device.waitForChange({ conversation_id: conversationId, change: "removed", title: "" });
    await send("Nobody else reads this");
    const deleted = await createConversation(first, owner, [guest], { title: "Short" });
    for (const device of devices) await device.waitForChange({ conversation_id: deleted.id, change: "added" });
    await call(first, `/conversations/${deleted.id}`, { token, method: "DELETE" });
    for (const device of devices) await device.waitForChange({ conversation_id: deleted.id, change: "removed" });
    expect(devices.map((device) => device.list(conversationId).at(-1)?.change)).toEqual(["removed", "removed"]);
    await waitForInboxesToMatchLists();
    await call(first, "/auth/logout", { token: guest.access_token, json: { refresh_token: guest.refresh_token } });
    await Promise.all(devices.map(({ closed }) => closed));
  });

  test("neither instance logs warnings or errors", () => {
    const lines = installation.readLog().match(/.*"level":"(?:warn|error|fatal)".*/g) ?? [];
    // Some warnings are expected on a busy machine or with a pooler.
    const expected = /LISTEN doesn't work|[Pp]ooler|slow query|the bus over \w+ is unavailable|timed out/;
    expect(lines.filter((line) => !expected.test(line))).toEqual([]);
    expect(installation.readLog()).not.toContain("a secret that only tests know");
  });
});
