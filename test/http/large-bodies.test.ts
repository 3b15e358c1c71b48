import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import { startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRest, type Rest } from "../support/rest.ts";

type Sent = { message: { seq: number; content: string } };

/** Three bytes each. */
const LARGE_CHARS = 200_000;
const MANY = 40;
/** More megabyte bodies than one user may have in flight. */
const TOO_MANY = 17;
const ALL_BYTES_MAX = 128 * 1024 * 1024;

let provider: MockProvider;
let parley: TestApp;
let anna: Rest;
let ben: Rest;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "compatible/stall",
      AI_FIRST_TOKEN_TIMEOUT_MS: "20000",
    },
  });
  const accounts = await Promise.all([parley.register(), parley.register()]);
  [anna, ben] = accounts.map((account) => createRest(parley, account)) as [Rest, Rest];
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const create = async (by: Rest): Promise<string> =>
  (await by.request<{ id: string }>("POST", "/conversations", { reply_mode: "never" })).body.id;
const large = (chars = LARGE_CHARS) => ({ content: "語".repeat(chars) });
const send = (by: Rest, conversation: string, json: object) =>
  by.request<Sent & ProblemBody>("POST", `/conversations/${conversation}/messages`, json);

/** Posts a raw body as Anna. */
const post = (path: string, body: string, options: { method?: string; type?: string; signal?: AbortSignal } = {}) =>
  fetch(`${parley.url}${path}`, {
    method: options.method ?? "POST",
    headers: {
      authorization: `Bearer ${anna.account.access_token}`,
      "content-type": options.type ?? "application/json",
    },
    body,
    ...(options.signal && { signal: options.signal }),
  });

/** Whether the response arrives within this time. */
const isOver = (work: Promise<unknown>, ms: number) =>
  Promise.race([work.then(() => true), Bun.sleep(ms).then(() => false)]);

/** Blocks writes to these conversations until the returned function is called. */
async function lock(...conversations: string[]): Promise<() => Promise<void>> {
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const { promise: locked, resolve: onLocked } = Promise.withResolvers<void>();
  const done = parley.database.begin(async (sql) => {
    await sql`select 1 from conversations where id = any(${conversations}) for update`;
    onLocked();
    await held;
  });
  await locked;
  return async () => {
    release();
    await done;
  };
}

/** Begins a request with a body that never arrives. */
function announce(by: Rest, bytes: number) {
  const { hostname, port } = new URL(parley.url);
  const socket = connect(Number(port), hostname);
  let text = "";
  socket.on("data", (data) => {
    text += data.toString();
  });
  const { promise: isClosed, resolve } = Promise.withResolvers<void>();
  socket.on("close", () => resolve());
  socket.on("error", () => {});
  const path = `/api/v1/conversations/${crypto.randomUUID()}/messages`;
  const head = [
    `POST ${path} HTTP/1.1`,
    `Host: ${hostname}`,
    `Authorization: Bearer ${by.account.access_token}`,
    "Content-Type: application/json",
    `Content-Length: ${bytes}`,
  ];
  socket.write(`${head.join("\r\n")}\r\n\r\n{`);
  return {
    /** 0: no response yet. */
    readStatus: () => Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0),
    close: () => {
      socket.destroy();
      return isClosed;
    },
  };
}

async function until(isTrue: () => boolean): Promise<void> {
  for (const endMs = performance.now() + 15_000; !isTrue() && performance.now() < endMs; ) await Bun.sleep(20);
}

test("concurrent large and small messages are all stored, without a gap in the seqs", async () => {
  const conversation = await create(anna);
  const bodies = Array.from({ length: 12 }, (_, n) => (n % 3 === 0 ? large() : { content: `small ${n}` }));
  const answers = await Promise.all(bodies.map((body) => send(anna, conversation, body)));
  expect(answers.map(({ status }) => status)).toEqual(bodies.map(() => 201));
  expect(answers.map(({ body }) => body.message.content)).toEqual(bodies.map(({ content }) => content));
  expect(answers.map(({ body }) => body.message.seq).sort((a, b) => a - b)).toEqual(bodies.map((_, n) => n + 1));
});

test("a user has one large request at a time; small ones and those of other users do not wait", async () => {
  const [conversation, ofBen] = [await create(anna), await create(ben)];
  const another = await create(anna);
  const unlock = await lock(conversation);
  const first = send(anna, conversation, large());
  expect(await isOver(first, 200)).toBe(false);
  const second = send(anna, another, large());
  expect((await send(ben, ofBen, large())).status).toBe(201);
  expect((await send(anna, another, { content: "small" })).status).toBe(201);
  expect(await isOver(second, 200)).toBe(false);
  await unlock();
  expect((await Promise.all([first, second])).map(({ status }) => status)).toEqual([201, 201]);
});

test("many users whose large messages wait for a lock do not delay other users", async () => {
  const users = await Promise.all(Array.from({ length: 6 }, async () => createRest(parley, await parley.register())));
  const conversations = await Promise.all(users.map(create));
  const ofBen = await create(ben);
  const unlock = await lock(...conversations);
  const waiting = users.map((user, n) => send(user, conversations[n] as string, large()));
  expect(await isOver(Promise.any(waiting), 500)).toBe(false);
  // Shorter than the timeout of the waiting requests.
  expect(await isOver(send(ben, ofBen, large()), 8_000)).toBe(true);
  await unlock();
  expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual(users.map(() => 201));
});

test("the next large request runs after every response, also after an error", async () => {
  const conversation = await create(anna);
  const path = `/api/v1/conversations/${conversation}/messages`;
  for (let time = 0; time < 3; time += 1) {
    expect((await send(anna, conversation, large(LARGE_CHARS + 1))).status).toBe(422);
    expect((await send(anna, await create(ben), large())).status).toBe(404);
    expect((await post(path, `{"content":"${"x".repeat(100_000)}`)).status).toBe(400);
    expect((await post(path, "x".repeat(100_000), { type: "text/plain" })).status).toBe(415);
    const left = new AbortController();
    const aborted = post(path, JSON.stringify(large()), left).catch(() => "aborted");
    await Bun.sleep(time * 5);
    left.abort();
    await aborted;
  }
  expect((await send(anna, conversation, large())).status).toBe(201);
});

test("a running answer does not block large requests", async () => {
  const left = new AbortController();
  const content = "x".repeat(100_000);
  const completionBody = JSON.stringify({ model: "compatible/stall", messages: [{ role: "user", content }] });
  const waiting = post("/v1/chat/completions", completionBody, left).catch(() => "aborted");
  expect(await isOver(waiting, 300)).toBe(false);
  expect((await send(anna, await create(anna), large())).status).toBe(201);
  left.abort();
  await waiting;
});

test("a user with too many waiting bytes is refused, and no one else", async () => {
  const conversation = await create(anna);
  const unlock = await lock(conversation);
  const first = send(anna, conversation, large());
  await Bun.sleep(200);
  const tooLong = { content: "x".repeat(1_000_000) };
  const waiting = Array.from({ length: MANY }, () => send(anna, conversation, tooLong));
  const refused = await Promise.any(
    waiting.map(async (answer) => {
      const { status, body, headers } = await answer;
      return { status, code: body.code, retryAfter: headers.get("retry-after") };
    }),
  );
  expect(refused).toEqual({ status: 429, code: "rate_limited", retryAfter: "1" });
  const ofBen = await send(ben, await create(ben), large());
  expect(ofBen.status).toBe(201);
  await unlock();
  expect((await first).status).toBe(201);
  const statuses = (await Promise.all(waiting)).map(({ status }) => status);
  // Requests that were not refused ran, and were found to be too long.
  expect(new Set(statuses)).toEqual(new Set([422, 429]));
  expect(statuses.filter((status) => status === 422).length).toBe(TOO_MANY - 1);
});

test("the bodies of all users share a limit, which leaves room for a user with none in flight", async () => {
  const users = await Promise.all(Array.from({ length: 8 }, async () => createRest(parley, await parley.register())));
  const ofBen = await create(ben);
  const begun = users.flatMap((user) => Array.from({ length: TOO_MANY - 1 }, () => announce(user, 1_000_000)));
  const countOf = (status: number) => begun.filter(({ readStatus }) => readStatus() === status).length;
  await until(() => countOf(503) > 0);
  await Bun.sleep(1_000);
  expect(countOf(503)).toBeGreaterThan(0);
  expect(countOf(503) + countOf(0)).toBe(begun.length);
  expect(countOf(0) * 1_000_000).toBeLessThan(ALL_BYTES_MAX);
  expect((await send(ben, ofBen, large())).status).toBe(201);

  await Promise.all(begun.map(({ close }) => close()));
  const again = await Promise.all(users.map(async (user) => send(user, await create(user), large())));
  expect(again.map(({ status }) => status)).toEqual(users.map(() => 201));
});

test("a route that needs no large body refuses one", async () => {
  const { account } = anna;
  const password = JSON.stringify({ current_password: TEST_PASSWORD, new_password: TEST_PASSWORD });
  expect((await post("/api/v1/me/password", password + " ".repeat(70_000))).status).toBe(413);
  expect((await post("/api/v1/auth/login", `{"email":"${account.user.email}"${" ".repeat(70_000)}}`)).status).toBe(413);
});

test("accepts everything that fits its schema, even if its JSON is long", async () => {
  const escaped = `{"a":"${"\\u0061".repeat(16_000)}"}`;
  expect((await post("/api/v1/me/preferences", escaped, { method: "PUT" })).status).toBe(200);
  expect((await post("/api/v1/conversations", `{"metadata":${escaped}}`)).status).toBe(201);
  const { status } = await anna.request("POST", "/prompts", { name: "Long", template: "語".repeat(32_000) });
  expect(status).toBe(201);
});
