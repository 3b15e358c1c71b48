import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Database, openDatabase } from "../../src/db/client.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";

const POOL_SIZE = 2;
/** Far longer than a normal request takes, even on a busy machine, and far shorter than the locks are held. */
const UNDELAYED_MS_MAX = 1_500;
const LOCKED_MS = 4_000;
/** Longer than the lock timeout of a statement. */
const BRIEFLY_LOCKED_MS = 2_500;

let provider: MockProvider;
let testDatabase: Awaited<ReturnType<typeof createTestDatabase>>;
/** A separate pool, as another instance would have. */
let otherInstance: Database;
let parley: TestApp;
let anna: RestClient;
let ben: RestClient;
let sockets: TestSocket[];
let annasConversationId: string;
let bensConversationId: string;
/** Path of an answer in Anna's conversation. */
let answerPath: string;

const startInstance = () =>
  startApp({
    database: testDatabase,
    config: {
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "compatible/one",
      AI_MAX_RETRIES: "0",
      BUDGET_USER_TOKENS_PER_DAY: "1000000000",
    },
  });

beforeAll(async () => {
  provider = startMockProvider();
  testDatabase = await createTestDatabase(POOL_SIZE);
  otherInstance = openDatabase({ target: testDatabase.target, poolSize: 4 });
  parley = await startInstance();
  anna = createRestClient(parley, await parley.register(undefined, "Anna"));
  ben = createRestClient(parley, await parley.register(undefined, "Ben"));
  sockets = await Promise.all(
    Array.from({ length: 5 }, () => openSocket(parley.url, { token: anna.account.access_token })),
  );
  annasConversationId = (await createConversation(parley, anna.account)).id;
  bensConversationId = (await createConversation(parley, ben.account)).id;
  provider.script("one", { text: "An animal." });
  const question = await postMessage(anna, annasConversationId, "A fox?", { reply: true });
  answerPath = `/conversations/${annasConversationId}/messages/${question.body.reply?.id}`;
  await waitForAnswer(answerPath, 5_000);
});
afterAll(async () => {
  await Promise.all(sockets.map((socket) => socket.close()));
  await parley.stop();
  await testDatabase.database.end({ timeout: 1 });
  await otherInstance.end({ timeout: 1 });
  await provider.stop();
});

/** Locks rows as a frozen instance would, for `ms`, while `work` runs. */
async function whileLocked<T>(ms: number, lock: string, values: string[], work: () => Promise<T>): Promise<T> {
  let pendingWork: Promise<T> | undefined;
  await otherInstance.begin(async (sql) => {
    await sql`set local idle_in_transaction_session_timeout = 0`;
    const rows = await sql.unsafe(lock, values);
    expect(rows.length).toBeGreaterThan(0);
    pendingWork = work();
    // The caller receives the error from the returned promise.
    pendingWork.catch(() => {});
    await Bun.sleep(ms);
  });
  return pendingWork as Promise<T>;
}
const LOCK_CONVERSATIONS = "select 1 from conversations where id = any ($1) for update";

async function waitFor<T>(findValue: () => Promise<T | undefined>, waitMs: number): Promise<T> {
  const deadlineMs = performance.now() + waitMs;
  for (;;) {
    const value = await findValue();
    if (value !== undefined) return value;
    if (performance.now() > deadlineMs) throw new Error(`Timed out after ${waitMs} ms.`);
    await Bun.sleep(20);
  }
}

const waitForAnswer = (path: string, waitMs: number): Promise<Message> =>
  waitFor(async () => {
    const { body } = await anna.get<Message>(path);
    return body.status === "streaming" ? undefined : body;
  }, waitMs);

/** Sends the requests in turn for `ms`, and returns the duration of each. */
async function measureDurations(ms: number, requests: (() => Promise<{ status: number }>)[]): Promise<number[]> {
  const durationsMs: number[] = [];
  const deadlineMs = performance.now() + ms;
  while (performance.now() < deadlineMs)
    for (const request of requests) {
      const startedAtMs = performance.now();
      expect((await request()).status).toBeLessThan(300);
      durationsMs.push(performance.now() - startedAtMs);
    }
  return durationsMs;
}

const postMessage = (rest: RestClient, id: string, content: string, fields: Record<string, unknown> = {}) =>
  rest.request<SentMessage>("POST", `/conversations/${id}/messages`, { content, reply: false, ...fields });

const requestCompletion = (rest: RestClient, fields: Record<string, unknown> = {}) =>
  parley.fetch("/v1/chat/completions", {
    token: rest.account.access_token,
    json: { model: "compatible/one", messages: [{ role: "user", content: "A fox?" }], ...fields },
  });

const changeBensConversation = () => ben.request("PATCH", `/conversations/${bensConversationId}`, { title: "still" });
const otherUserRequests = [
  () => postMessage(ben, bensConversationId, "hello"),
  () => ben.get(`/conversations/${bensConversationId}/messages`),
  () => ben.get("/conversations"),
  changeBensConversation,
  () => fetch(`${parley.url}/readyz`),
];

/** Requests that need a row locked by the given statement. */
const blockedRequests: Record<string, { lock: string; request(n: number): Promise<{ status: number }> }> = {
  "one user's completions": {
    lock: "select 1 from budget_windows where scope_id = $1 for update",
    request: () => requestCompletion(anna),
  },
  "read positions": {
    lock: "select 1 from members where user_id = $1 for update",
    async request(n) {
      // Uses several sockets, because each processes its frames in sequence.
      const socket = sockets[n % sockets.length] as TestSocket;
      const frame = await socket.request({ type: "read", id: `r${n}`, conversation_id: annasConversationId, seq: 2 });
      return { status: frame.type === "error" ? 503 : 200 };
    },
  },
  "profile changes": {
    lock: "select 1 from users where id = $1 for update",
    request: (n) => anna.request("PATCH", "/me", { display_name: `Anna ${n}` }),
  },
  "new conversations": {
    lock: "select 1 from users where id = $1 for update",
    request: () => anna.request("POST", "/conversations", {}),
  },
  "feedback requests": {
    lock: `
      select 1 from messages m where exists (
        select 1 from generations g where g.requested_by = $1 and g.message_id = m.id) for update`,
    request: () => anna.request("PUT", `${answerPath}/feedback`, { rating: 1 }),
  },
};

test.each(Object.keys(blockedRequests))(
  "%s that wait for a locked row don't exhaust the connection pool",
  async (name) => {
    const { lock, request } = blockedRequests[name] as (typeof blockedRequests)[string];
    const { durationsMs, statuses } = await whileLocked(BRIEFLY_LOCKED_MS, lock, [anna.id], async () => {
      const statuses = Promise.all(Array.from({ length: 20 }, async (_, n) => (await request(n)).status));
      return { durationsMs: await measureDurations(BRIEFLY_LOCKED_MS - 500, otherUserRequests), statuses };
    });
    expect(Math.max(...durationsMs)).toBeLessThan(UNDELAYED_MS_MAX);
    expect((await statuses).filter((status) => status >= 300 && status !== 503)).toEqual([]);
    expect((await request(20)).status).toBeLessThan(300);
  },
);

test("slow reads that exhaust the pool don't block messages or health checks", async () => {
  const slowReads = Promise.all(Array.from({ length: 4 * POOL_SIZE }, () => testDatabase.database`select pg_sleep(1)`));
  const durationsMs = await measureDurations(2_000, [
    () => postMessage(ben, bensConversationId, "hello"),
    () => fetch(`${parley.url}/readyz`),
  ]);
  expect(Math.max(...durationsMs)).toBeLessThan(UNDELAYED_MS_MAX);
  await slowReads;
}, 30_000);

test("another user's change stays fast while 8 locked conversations have 20 pending changes each", async () => {
  const lockedIds = await Promise.all(
    Array.from({ length: 8 }, async () => (await createConversation(parley, anna.account)).id),
  );
  const { durationsMs, statuses } = await whileLocked(
    BRIEFLY_LOCKED_MS,
    LOCK_CONVERSATIONS,
    [lockedIds as never],
    async () => {
      const changes = lockedIds.flatMap((id) =>
        Array.from({ length: 20 }, (_, n) => anna.request("PATCH", `/conversations/${id}`, { title: `${n}` })),
      );
      const statuses = Promise.all(changes).then((responses) => responses.map(({ status }) => status));
      return {
        durationsMs: await measureDurations(BRIEFLY_LOCKED_MS - 500, [changeBensConversation]),
        statuses,
      };
    },
  );
  const sorted = durationsMs.toSorted((a, b) => a - b);
  if (process.env.TEST_FIGURES)
    console.log({
      count: durationsMs.length,
      p50: sorted[durationsMs.length >> 1],
      p99: sorted.at(-Math.ceil(durationsMs.length / 100)),
    });
  expect(Math.max(...durationsMs)).toBeLessThan(UNDELAYED_MS_MAX);
  expect(new Set(await statuses).difference(new Set([200, 503])).size).toBe(0);
}, 60_000);

test("an answer that calls tools is completed even if its conversation is locked for 4 s", async () => {
  const { id } = await createConversation(parley, anna.account, [], { tools: true });
  provider.script(
    "one",
    {
      pieces: ["Let ", "me ", "look. "],
      pieceDelayMs: 200,
      toolCalls: [{ name: "search_documents", arguments: '{"query":"backup"}' }],
    },
    { text: "Here it is." },
  );
  const requestCountBefore = provider.requests.length;
  const question = await postMessage(anna, id, "How?", { reply: true });
  const path = `/conversations/${id}/messages/${question.body.reply?.id}`;
  await whileLocked(LOCKED_MS, LOCK_CONVERSATIONS, [[id] as never], async () => {
    await Bun.sleep(LOCKED_MS - 500);
    // The model has called the tool, and storing the result waits for the lock.
    expect(provider.requests.length - requestCountBefore).toBe(1);
  });
  const message = await waitForAnswer(path, 10_000);
  expect(message).toMatchObject({ status: "complete", content: "Let me look. Here it is." });
  expect(provider.requests.length - requestCountBefore).toBe(2);
}, 30_000);

test("an answer that couldn't be stored because the database was slow is stored later, without another model call", async () => {
  const { id } = await createConversation(parley, anna.account);
  await otherInstance`create sequence slow_ends`;
  await otherInstance`
    create function be_slow() returns trigger language plpgsql as $$
    begin
      if nextval('slow_ends') <= 2 then raise exception 'too slow' using errcode = '57014'; end if;
      return new;
    end $$`;
  await otherInstance`
    create trigger be_slow before update on messages for each row when (new.status = 'complete') execute function be_slow()`;
  provider.script("one", { text: "Paid once." });
  const requestCountBefore = provider.requests.length;
  const question = await postMessage(anna, id, "Talk.", { reply: true });
  const path = `/conversations/${id}/messages/${question.body.reply?.id}`;
  const message = await waitForAnswer(path, 20_000);
  await otherInstance`drop trigger be_slow on messages`;
  expect(message).toMatchObject({ status: "complete", content: "Paid once." });
  expect(provider.requests.length - requestCountBefore).toBe(1);
}, 30_000);

test("a completion in a locked conversation is returned immediately, and stored after the lock is released", async () => {
  const { id } = await createConversation(parley, anna.account);
  provider.script("one", { text: "A red animal." });
  const startedAtMs = performance.now();
  const { status, durationMs } = await whileLocked(LOCKED_MS, LOCK_CONVERSATIONS, [[id] as never], async () => {
    const response = await requestCompletion(anna, { metadata: { conversation_id: id } });
    expect(await response.json()).toMatchObject({ choices: [{ message: { content: "A red animal." } }] });
    return { status: response.status, durationMs: performance.now() - startedAtMs };
  });
  expect(status).toBe(200);
  expect(durationMs).toBeLessThan(LOCKED_MS - 500);
  const storedMessages = await waitFor(async () => {
    const { body } = await anna.get<{ data: Message[] }>(`/conversations/${id}/messages`);
    return body.data.length === 2 ? body.data : undefined;
  }, 15_000);
  expect(storedMessages.map(({ role, content }) => [role, content])).toEqual([
    ["user", "A fox?"],
    ["assistant", "A red animal."],
  ]);
  expect(storedMessages[1]?.parent_id).toBe(storedMessages[0]?.id ?? "");
}, 40_000);

test("a stopping instance hands over an answer in a locked conversation within 2.5 s", async () => {
  const stoppingApp = await startInstance();
  const { id } = await createConversation(parley, anna.account);
  provider.script("one", { pieces: Array.from({ length: 10 }, (_, n) => `w${n} `), pieceDelayMs: 50 });
  const question = await postMessage(createRestClient(stoppingApp, anna.account), id, "Talk.", { reply: true });
  const readGeneration = () => otherInstance<{ is_free: boolean; fence: number }[]>`
    select lease_until < now() as is_free, fence from generations where message_id = ${question.body.reply?.id ?? ""}`;
  const stopDurationMs = await whileLocked(LOCKED_MS, LOCK_CONVERSATIONS, [[id] as never], async () => {
    // The model has finished, and storing its answer waits for the lock.
    await Bun.sleep(1_200);
    const startedAtMs = performance.now();
    await stoppingApp.stop();
    return performance.now() - startedAtMs;
  });
  expect(stopDurationMs).toBeLessThan(2_500);
  const [generation] = await readGeneration();
  expect(generation?.is_free || (generation?.fence ?? 0) > 1).toBe(true);
}, 30_000);

test("a change that waits for another user's row does not block other changes to the conversation", async () => {
  const { id } = await createConversation(parley, anna.account);
  const userId = ben.account.user.id;
  await whileLocked(LOCKED_MS, "select 1 from users where id = $1 for update", [userId], async () => {
    const pendingAddition = anna.request("POST", `/conversations/${id}/members`, { user_id: userId });
    await Bun.sleep(20);
    const changes = await Promise.all(
      ["a", "b", "c"].map((title) => anna.request("PATCH", `/conversations/${id}`, { title })),
    );
    expect(changes.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect((await pendingAddition).status).toBe(503);
  });
});
