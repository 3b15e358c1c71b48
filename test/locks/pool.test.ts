import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Database, openDatabase } from "../../src/db/client.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";

const POOL_SIZE = 2;
/** Far above a normal request, even on a busy machine; far below how long the locks are held. */
const UNDISTURBED_MS = 1_500;
const LOCKED_MS = 4_000;
/** Longer than a statement waits for a lock. */
const SHORTLY_LOCKED_MS = 2_500;

let provider: MockProvider;
let shared: Awaited<ReturnType<typeof createTestDatabase>>;
/** Outside Parley's pools, like another instance. */
let other: Database;
let parley: TestApp;
let anna: Rest;
let ben: Rest;
let sockets: TestSocket[];
/** Conversations of Anna and of Ben. */
let mine: string;
let free: string;
/** An answer in Anna's conversation. */
let answer: string;

const start = () =>
  startApp({
    database: shared,
    config: {
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "compatible/one",
      AI_MAX_RETRIES: "0",
      BUDGET_USER_TOKENS_PER_DAY: "1000000000",
    },
  });

beforeAll(async () => {
  provider = startMockProvider();
  shared = await createTestDatabase(POOL_SIZE);
  other = openDatabase({ target: shared.target, poolSize: 4 });
  parley = await start();
  anna = createRest(parley, await parley.register(undefined, "Anna"));
  ben = createRest(parley, await parley.register(undefined, "Ben"));
  sockets = await Promise.all(
    Array.from({ length: 5 }, () => openSocket(parley.url, { token: anna.account.access_token })),
  );
  mine = (await createConversation(parley, anna.account)).id;
  free = (await createConversation(parley, ben.account)).id;
  provider.script("one", { text: "An animal." });
  const question = await send(anna, mine, "A fox?", { reply: true });
  answer = `/conversations/${mine}/messages/${question.body.reply?.id}`;
  await untilWritten(answer, 5_000);
});
afterAll(async () => {
  await Promise.all(sockets.map((socket) => socket.close()));
  await parley.stop();
  await shared.database.end({ timeout: 1 });
  await other.end({ timeout: 1 });
  await provider.stop();
});

/** Locks rows as a frozen instance would, for `ms`, while `work` runs. */
async function whileLocked<T>(ms: number, lock: string, values: string[], work: () => Promise<T>): Promise<T> {
  let running: Promise<T> | undefined;
  await other.begin(async (sql) => {
    await sql`set local idle_in_transaction_session_timeout = 0`;
    const rows = await sql.unsafe(lock, values);
    expect(rows.length).toBeGreaterThan(0);
    running = work();
    // The failure is reported by the return value.
    running.catch(() => {});
    await Bun.sleep(ms);
  });
  return running as Promise<T>;
}
const LOCK_CONVERSATIONS = "select 1 from conversations where id = any ($1) for update";

async function until<T>(find: () => Promise<T | undefined>, waitMs: number): Promise<T> {
  const endsAtMs = performance.now() + waitMs;
  for (;;) {
    const found = await find();
    if (found !== undefined) return found;
    if (performance.now() > endsAtMs) throw new Error(`Timed out after ${waitMs} ms.`);
    await Bun.sleep(20);
  }
}

const untilWritten = (path: string, waitMs: number): Promise<Message> =>
  until(async () => {
    const { body } = await anna.get<Message>(path);
    return body.status === "streaming" ? undefined : body;
  }, waitMs);

/** The duration of each request, repeated in turn for this long. */
async function measure(ms: number, requests: (() => Promise<{ status: number }>)[]): Promise<number[]> {
  const took: number[] = [];
  const endsAtMs = performance.now() + ms;
  while (performance.now() < endsAtMs)
    for (const request of requests) {
      const startedAtMs = performance.now();
      expect((await request()).status).toBeLessThan(300);
      took.push(performance.now() - startedAtMs);
    }
  return took;
}

const send = (rest: Rest, id: string, content: string, more: Record<string, unknown> = {}) =>
  rest.request<SentMessage>("POST", `/conversations/${id}/messages`, { content, reply: false, ...more });

const complete = (rest: Rest, more: Record<string, unknown> = {}) =>
  parley.fetch("/v1/chat/completions", {
    token: rest.account.access_token,
    json: { model: "compatible/one", messages: [{ role: "user", content: "A fox?" }], ...more },
  });

const bystanderRequests = [
  () => send(ben, free, "hello"),
  () => ben.get(`/conversations/${free}/messages`),
  () => ben.get("/conversations"),
  () => ben.request("PATCH", `/conversations/${free}`, { title: "still" }),
  () => fetch(`${parley.url}/readyz`),
];

/** Operations that many requests of one user may block on. */
const waits: Record<string, { lock: string; request(n: number): Promise<{ status: number }> }> = {
  "completions of one payer": {
    lock: "select 1 from budget_windows where scope_id = $1 for update",
    request: () => complete(anna),
  },
  "read positions": {
    lock: "select 1 from members where user_id = $1 for update",
    async request(n) {
      // A socket handles its frames in sequence.
      const socket = sockets[n % sockets.length] as TestSocket;
      const frame = await socket.request({ type: "read", id: `r${n}`, conversation_id: mine, seq: 2 });
      return { status: frame.type === "error" ? 503 : 200 };
    },
  },
  "changes of a profile": {
    lock: "select 1 from users where id = $1 for update",
    request: (n) => anna.request("PATCH", "/me", { display_name: `Anna ${n}` }),
  },
  "new conversations": {
    lock: "select 1 from users where id = $1 for update",
    request: () => anna.request("POST", "/conversations", {}),
  },
  feedback: {
    lock: `
      select 1 from messages m where exists (
        select 1 from generations g where g.requested_by = $1 and g.message_id = m.id) for update`,
    request: () => anna.request("PUT", `${answer}/feedback`, { rating: 1 }),
  },
};

test.each(Object.keys(waits))("%s that wait for a locked row do not exhaust the connection pool", async (name) => {
  const { lock, request } = waits[name] as (typeof waits)[string];
  const { took, statuses } = await whileLocked(SHORTLY_LOCKED_MS, lock, [anna.id], async () => {
    const statuses = Promise.all(Array.from({ length: 20 }, async (_, n) => (await request(n)).status));
    return { took: await measure(SHORTLY_LOCKED_MS - 500, bystanderRequests), statuses };
  });
  expect(Math.max(...took)).toBeLessThan(UNDISTURBED_MS);
  expect((await statuses).filter((status) => status >= 300 && status !== 503)).toEqual([]);
  expect((await request(20)).status).toBeLessThan(300);
});

test("slow reads that exhaust the pool block neither sends nor health checks", async () => {
  const reads = Promise.all(Array.from({ length: 4 * POOL_SIZE }, () => shared.database`select pg_sleep(1)`));
  const took = await measure(2_000, [() => send(ben, free, "hello"), () => fetch(`${parley.url}/readyz`)]);
  expect(Math.max(...took)).toBeLessThan(UNDISTURBED_MS);
  await reads;
}, 30_000);

test("another user's change stays fast while 8 locked conversations have 20 pending changes each", async () => {
  const locked = await Promise.all(
    Array.from({ length: 8 }, async () => (await createConversation(parley, anna.account)).id),
  );
  const { took, statuses } = await whileLocked(SHORTLY_LOCKED_MS, LOCK_CONVERSATIONS, [locked as never], async () => {
    const patches = locked.flatMap((id) =>
      Array.from({ length: 20 }, (_, n) => anna.request("PATCH", `/conversations/${id}`, { title: `${n}` })),
    );
    const statuses = Promise.all(patches).then((answers) => answers.map(({ status }) => status));
    return {
      took: await measure(SHORTLY_LOCKED_MS - 500, [bystanderRequests[3] as (typeof bystanderRequests)[0]]),
      statuses,
    };
  });
  const sorted = took.toSorted((a, b) => a - b);
  if (process.env.TEST_FIGURES)
    console.log({ count: took.length, p50: sorted[took.length >> 1], p99: sorted.at(-Math.ceil(took.length / 100)) });
  expect(Math.max(...took)).toBeLessThan(UNDISTURBED_MS);
  expect(new Set(await statuses).difference(new Set([200, 503])).size).toBe(0);
}, 60_000);

test("an answer with tools, whose conversation is locked for 4 s, is completed", async () => {
  const { id } = await createConversation(parley, anna.account, [], { tools: true });
  provider.script(
    "one",
    {
      pieces: ["Let ", "me ", "look. "],
      pieceDelayMs: 200,
      toolCalls: [{ name: "search_documents", arguments: '{"query":"backup"}' }],
    },
    { text: "It is described." },
  );
  const before = provider.requests.length;
  const question = await send(anna, id, "How?", { reply: true });
  const written = `/conversations/${id}/messages/${question.body.reply?.id}`;
  await whileLocked(LOCKED_MS, LOCK_CONVERSATIONS, [[id] as never], async () => {
    await Bun.sleep(LOCKED_MS - 500);
    // The model has called the tool, and the result waits for the lock.
    expect(provider.requests.length - before).toBe(1);
  });
  const message = await untilWritten(written, 10_000);
  expect(message).toMatchObject({ status: "complete", content: "Let me look. It is described." });
  expect(provider.requests.length - before).toBe(2);
}, 30_000);

test("an answer that a slow database did not store is stored later, without another model call", async () => {
  const { id } = await createConversation(parley, anna.account);
  await other`create sequence slow_ends`;
  await other`
    create function be_slow() returns trigger language plpgsql as $$
    begin
      if nextval('slow_ends') <= 2 then raise exception 'too slow' using errcode = '57014'; end if;
      return new;
    end $$`;
  await other`
    create trigger be_slow before update on messages for each row when (new.status = 'complete') execute function be_slow()`;
  provider.script("one", { text: "Paid once." });
  const before = provider.requests.length;
  const question = await send(anna, id, "Talk.", { reply: true });
  const written = `/conversations/${id}/messages/${question.body.reply?.id}`;
  const message = await untilWritten(written, 20_000);
  await other`drop trigger be_slow on messages`;
  expect(message).toMatchObject({ status: "complete", content: "Paid once." });
  expect(provider.requests.length - before).toBe(1);
}, 30_000);

test("a completion in a locked conversation is returned at once, and stored after the lock is released", async () => {
  const { id } = await createConversation(parley, anna.account);
  provider.script("one", { text: "A red animal." });
  const startedAtMs = performance.now();
  const { status, tookMs } = await whileLocked(LOCKED_MS, LOCK_CONVERSATIONS, [[id] as never], async () => {
    const response = await complete(anna, { metadata: { conversation_id: id } });
    expect(await response.json()).toMatchObject({ choices: [{ message: { content: "A red animal." } }] });
    return { status: response.status, tookMs: performance.now() - startedAtMs };
  });
  expect(status).toBe(200);
  expect(tookMs).toBeLessThan(LOCKED_MS - 500);
  const stored = await until(async () => {
    const { body } = await anna.get<{ data: Message[] }>(`/conversations/${id}/messages`);
    return body.data.length === 2 ? body.data : undefined;
  }, 15_000);
  expect(stored.map(({ role, content }) => [role, content])).toEqual([
    ["user", "A fox?"],
    ["assistant", "A red animal."],
  ]);
  expect(stored[1]?.parent_id).toBe(stored[0]?.id ?? "");
}, 40_000);

test("an instance that stops hands over an answer in a locked conversation in time", async () => {
  const stopping = await start();
  const { id } = await createConversation(parley, anna.account);
  provider.script("one", { pieces: Array.from({ length: 10 }, (_, n) => `w${n} `), pieceDelayMs: 50 });
  const question = await send(createRest(stopping, anna.account), id, "Talk.", { reply: true });
  const generations = () => other<{ is_free: boolean; fence: number }[]>`
    select lease_until < now() as is_free, fence from generations where message_id = ${question.body.reply?.id ?? ""}`;
  const stoppedMs = await whileLocked(LOCKED_MS, LOCK_CONVERSATIONS, [[id] as never], async () => {
    // The model has ended, and its answer waits for the lock.
    await Bun.sleep(1_200);
    const startedAtMs = performance.now();
    await stopping.stop();
    return performance.now() - startedAtMs;
  });
  expect(stoppedMs).toBeLessThan(2_500);
  const [generation] = await generations();
  expect(generation?.is_free || (generation?.fence ?? 0) > 1).toBe(true);
}, 30_000);

test("a change that waits for another user's row does not block other changes of the conversation", async () => {
  const { id } = await createConversation(parley, anna.account);
  const userId = ben.account.user.id;
  await whileLocked(LOCKED_MS, "select 1 from users where id = $1 for update", [userId], async () => {
    const adding = anna.request("POST", `/conversations/${id}/members`, { user_id: userId });
    await Bun.sleep(20);
    const changes = await Promise.all(
      ["a", "b", "c"].map((title) => anna.request("PATCH", `/conversations/${id}`, { title })),
    );
    expect(changes.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect((await adding).status).toBe(503);
  });
});
