import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import { startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { waitUntil } from "../support/wait-until.ts";

type SendResponse = { message: { seq: number; content: string } };

/** The number of characters in a large message. Each character has three bytes. */
const LARGE_CHARS = 200_000;
const REQUEST_COUNT = 40;
/** The number of 1 MB bodies with which a user exceeds the limit for waiting bodies. */
const TOO_MANY_BODIES = 17;
const TOTAL_BYTES_MAX = 128 * 1024 * 1024;

let provider: MockProvider;
let parley: TestApp;
let anna: RestClient;
let ben: RestClient;

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
  [anna, ben] = accounts.map((account) => createRestClient(parley, account)) as [RestClient, RestClient];
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const createConversation = async (user: RestClient): Promise<string> =>
  (await user.request<{ id: string }>("POST", "/conversations", { reply_mode: "never" })).body.id;
const createLargeMessage = (chars = LARGE_CHARS) => ({ content: "語".repeat(chars) });
const sendMessage = (user: RestClient, conversation: string, json: object) =>
  user.request<SendResponse & ProblemBody>("POST", `/conversations/${conversation}/messages`, json);

/** Sends a raw body as Anna. */
const sendRawBody = (
  path: string,
  body: string,
  options: { method?: string; type?: string; signal?: AbortSignal } = {},
) =>
  fetch(`${parley.url}${path}`, {
    method: options.method ?? "POST",
    headers: {
      authorization: `Bearer ${anna.account.access_token}`,
      "content-type": options.type ?? "application/json",
    },
    body,
    ...(options.signal && { signal: options.signal }),
  });

/** Returns whether a promise is fulfilled within this time. */
const finishesWithin = (work: Promise<unknown>, ms: number) =>
  Promise.race([work.then(() => true), Bun.sleep(ms).then(() => false)]);

/** Blocks writes to these conversations until the returned function is called. */
async function lockConversations(...conversations: string[]): Promise<() => Promise<void>> {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const { promise: locked, resolve: confirmLocked } = Promise.withResolvers<void>();
  const locking = parley.database.begin(async (sql) => {
    await sql`select 1 from conversations where id = any(${conversations}) for update`;
    confirmLocked();
    await released;
  });
  await locked;
  return async () => {
    release();
    await locking;
  };
}

/** Starts a request whose body never arrives completely. */
function startIncompleteRequest(user: RestClient, bytes: number) {
  const { hostname, port } = new URL(parley.url);
  const socket = connect(Number(port), hostname);
  let text = "";
  socket.on("data", (data) => {
    text += data.toString();
  });
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  socket.on("close", () => resolve());
  socket.on("error", () => {});
  const path = `/api/v1/conversations/${crypto.randomUUID()}/messages`;
  const head = [
    `POST ${path} HTTP/1.1`,
    `Host: ${hostname}`,
    `Authorization: Bearer ${user.account.access_token}`,
    "Content-Type: application/json",
    `Content-Length: ${bytes}`,
  ];
  socket.write(`${head.join("\r\n")}\r\n\r\n{`);
  return {
    /** Returns 0 if there is no response yet. */
    getStatus: () => Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0),
    close: () => {
      socket.destroy();
      return closed;
    },
  };
}

test("concurrent large and small messages are all stored, without gaps in the sequence numbers", async () => {
  const conversation = await createConversation(anna);
  const bodies = Array.from({ length: 12 }, (_, n) => (n % 3 === 0 ? createLargeMessage() : { content: `small ${n}` }));
  const responses = await Promise.all(bodies.map((body) => sendMessage(anna, conversation, body)));
  expect(responses.map(({ status }) => status)).toEqual(bodies.map(() => 201));
  expect(responses.map(({ body }) => body.message.content)).toEqual(bodies.map(({ content }) => content));
  expect(responses.map(({ body }) => body.message.seq).sort((a, b) => a - b)).toEqual(bodies.map((_, n) => n + 1));
});

test("a user's large requests run one at a time, without delaying small requests and other users", async () => {
  const [conversation, benConversation] = [await createConversation(anna), await createConversation(ben)];
  const otherConversation = await createConversation(anna);
  const unlock = await lockConversations(conversation);
  const firstRequest = sendMessage(anna, conversation, createLargeMessage());
  expect(await finishesWithin(firstRequest, 200)).toBe(false);
  const secondRequest = sendMessage(anna, otherConversation, createLargeMessage());
  expect((await sendMessage(ben, benConversation, createLargeMessage())).status).toBe(201);
  expect((await sendMessage(anna, otherConversation, { content: "small" })).status).toBe(201);
  expect(await finishesWithin(secondRequest, 200)).toBe(false);
  await unlock();
  expect((await Promise.all([firstRequest, secondRequest])).map(({ status }) => status)).toEqual([201, 201]);
});

test("large messages that wait for a lock don't delay other users", async () => {
  const users = await Promise.all(
    Array.from({ length: 6 }, async () => createRestClient(parley, await parley.register())),
  );
  const conversations = await Promise.all(users.map(createConversation));
  const benConversation = await createConversation(ben);
  const unlock = await lockConversations(...conversations);
  const waitingRequests = users.map((user, n) => sendMessage(user, conversations[n] as string, createLargeMessage()));
  expect(await finishesWithin(Promise.any(waitingRequests), 500)).toBe(false);
  // 8 seconds is shorter than the waiting requests' timeout.
  expect(await finishesWithin(sendMessage(ben, benConversation, createLargeMessage()), 8_000)).toBe(true);
  await unlock();
  expect((await Promise.all(waitingRequests)).map(({ status }) => status)).toEqual(users.map(() => 201));
});

test("a large request can start after the previous one has failed or been aborted", async () => {
  const conversation = await createConversation(anna);
  const path = `/api/v1/conversations/${conversation}/messages`;
  for (let attempt = 0; attempt < 3; attempt += 1) {
    expect((await sendMessage(anna, conversation, createLargeMessage(LARGE_CHARS + 1))).status).toBe(422);
    expect((await sendMessage(anna, await createConversation(ben), createLargeMessage())).status).toBe(404);
    expect((await sendRawBody(path, `{"content":"${"x".repeat(100_000)}`)).status).toBe(400);
    expect((await sendRawBody(path, "x".repeat(100_000), { type: "text/plain" })).status).toBe(415);
    const controller = new AbortController();
    const abortedRequest = sendRawBody(path, JSON.stringify(createLargeMessage()), controller).catch(() => "aborted");
    await Bun.sleep(attempt * 5);
    controller.abort();
    await abortedRequest;
  }
  expect((await sendMessage(anna, conversation, createLargeMessage())).status).toBe(201);
});

test("an answer in progress doesn't block large requests", async () => {
  const controller = new AbortController();
  const content = "x".repeat(100_000);
  const completionBody = JSON.stringify({ model: "compatible/stall", messages: [{ role: "user", content }] });
  const completion = sendRawBody("/v1/chat/completions", completionBody, controller).catch(() => "aborted");
  expect(await finishesWithin(completion, 300)).toBe(false);
  expect((await sendMessage(anna, await createConversation(anna), createLargeMessage())).status).toBe(201);
  controller.abort();
  await completion;
});

test("requests from a user with too many waiting bytes are rejected, but not other users' requests", async () => {
  const conversation = await createConversation(anna);
  const unlock = await lockConversations(conversation);
  const firstRequest = sendMessage(anna, conversation, createLargeMessage());
  await Bun.sleep(200);
  const tooLongMessage = { content: "x".repeat(1_000_000) };
  const waitingRequests = Array.from({ length: REQUEST_COUNT }, () => sendMessage(anna, conversation, tooLongMessage));
  const rejectedResponse = await Promise.any(
    waitingRequests.map(async (response) => {
      const { status, body, headers } = await response;
      return { status, code: body.code, retryAfter: headers.get("retry-after") };
    }),
  );
  expect(rejectedResponse).toEqual({ status: 429, code: "rate_limited", retryAfter: "1" });
  const benResponse = await sendMessage(ben, await createConversation(ben), createLargeMessage());
  expect(benResponse.status).toBe(201);
  await unlock();
  expect((await firstRequest).status).toBe(201);
  const statuses = (await Promise.all(waitingRequests)).map(({ status }) => status);
  // The other requests ran, and failed because their content is too long.
  expect(new Set(statuses)).toEqual(new Set([422, 429]));
  expect(statuses.filter((status) => status === 422).length).toBe(TOO_MANY_BODIES - 1);
});

test("all users' bodies share a limit, but a user without waiting requests is exempt", async () => {
  const users = await Promise.all(
    Array.from({ length: 8 }, async () => createRestClient(parley, await parley.register())),
  );
  const benConversation = await createConversation(ben);
  const requests = users.flatMap((user) =>
    Array.from({ length: TOO_MANY_BODIES - 1 }, () => startIncompleteRequest(user, 1_000_000)),
  );
  const countStatus = (status: number) => requests.filter(({ getStatus }) => getStatus() === status).length;
  await waitUntil(() => countStatus(503) > 0);
  await Bun.sleep(1_000);
  expect(countStatus(503)).toBeGreaterThan(0);
  expect(countStatus(503) + countStatus(0)).toBe(requests.length);
  expect(countStatus(0) * 1_000_000).toBeLessThan(TOTAL_BYTES_MAX);
  expect((await sendMessage(ben, benConversation, createLargeMessage())).status).toBe(201);

  await Promise.all(requests.map(({ close }) => close()));
  const laterResponses = await Promise.all(
    users.map(async (user) => sendMessage(user, await createConversation(user), createLargeMessage())),
  );
  expect(laterResponses.map(({ status }) => status)).toEqual(users.map(() => 201));
});

test("a route that doesn't need large bodies rejects them", async () => {
  const { account } = anna;
  const passwordBody = JSON.stringify({ current_password: TEST_PASSWORD, new_password: TEST_PASSWORD });
  expect((await sendRawBody("/api/v1/me/password", passwordBody + " ".repeat(70_000))).status).toBe(413);
  expect(
    (await sendRawBody("/api/v1/auth/login", `{"email":"${account.user.email}"${" ".repeat(70_000)}}`)).status,
  ).toBe(413);
});

test("a body that matches its schema is accepted even if its JSON is long", async () => {
  const escapedBody = `{"a":"${"\\u0061".repeat(16_000)}"}`;
  expect((await sendRawBody("/api/v1/me/preferences", escapedBody, { method: "PUT" })).status).toBe(200);
  expect((await sendRawBody("/api/v1/conversations", `{"metadata":${escapedBody}}`)).status).toBe(201);
  const { status } = await anna.request("POST", "/prompts", { name: "Long", template: "語".repeat(32_000) });
  expect(status).toBe(201);
});
