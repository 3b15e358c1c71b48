import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createTestLog } from "../support/log.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { openSocket } from "../support/socket.ts";
import { waitUntil } from "../support/wait-until.ts";

const { log, lines } = createTestLog();
let provider: MockProvider;
let parley: TestApp;
let anna: Account;
let conversationId: string;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    log,
    config: {
      OPENAI_API_KEY: "sk-hunter2hunter2",
      OPENAI_BASE_URL: provider.openaiUrl,
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "compatible/refused,compatible/spare,openai/unauthorized",
      AI_MAX_RETRIES: "0",
    },
  });
  anna = await parley.register();
  conversationId = (await createConversation(parley, anna, [], { title: "Mine" })).id;
});
afterAll(async () => {
  await parley?.stop();
  await provider?.stop();
});
afterEach(() => void lines.splice(0));

const failures = () => lines.filter(({ model, code }) => model !== undefined && code !== undefined);
const waitUntilFailed = () => waitUntil(() => failures().length > 0);
type Sent = { message: { id: string }; reply: { id: string } };

async function send(headers: Record<string, string> = {}, path = "messages") {
  const response = await parley.fetch(`/api/v1/conversations/${conversationId}/${path}`, {
    token: anna.access_token,
    headers,
    json: path === "messages" ? { content: "Hello", reply: true } : {},
  });
  const text = await response.text();
  return { response, text };
}

test("a failed model is logged with its message and its request", async () => {
  const { text } = await send({ "x-request-id": "asked-by-rest" });
  const { reply } = JSON.parse(text) as Sent;
  await waitUntilFailed();
  expect(failures()).toMatchObject([
    { model: "compatible/refused", level: "warn", message_id: reply.id, request_id: "asked-by-rest" },
  ]);

  await waitUntil(async () => {
    const path = `/api/v1/conversations/${conversationId}/messages/${reply.id}`;
    const read = await parley.fetch(path, { token: anna.access_token });
    return ((await read.json()) as { status: string }).status === "complete";
  });
  lines.splice(0);
  const again = await send({ "x-request-id": "asked-again" }, `messages/${reply.id}/regenerate`);
  const second = (JSON.parse(again.text) as Sent).reply;
  await waitUntilFailed();
  expect(failures()[0]).toMatchObject({ message_id: second.id, request_id: "asked-again" });
});

test("also for a streamed reply", async () => {
  const { text } = await send({ "x-request-id": "asked-by-stream", accept: "text/event-stream" });
  const [, id] = /"role":"assistant".*?/.exec(text) ? (/"message_id":"([^"]+)"/.exec(text) ?? []) : [];
  expect(failures()[0]).toMatchObject({ request_id: "asked-by-stream", message_id: id });
});

test("a message over a socket is logged with the request that opened the socket", async () => {
  const socket = await openSocket(parley.url, { token: anna.access_token, headers: { "x-request-id": "upgraded" } });
  await socket.request({
    type: "message.send",
    conversation_id: conversationId,
    client_message_id: crypto.randomUUID(),
    content: "Hello",
    reply: true,
  });
  await waitUntilFailed();
  expect(failures()[0]).toMatchObject({ request_id: "upgraded", message_id: expect.any(String) });
  await socket.close();

  lines.splice(0);
  const late = await openSocket(parley.url, { headers: { "x-request-id": "upgraded-later" } });
  await late.request({ type: "auth", token: anna.access_token });
  await late.request({
    type: "message.send",
    conversation_id: conversationId,
    client_message_id: crypto.randomUUID(),
    content: "Hello",
    reply: true,
  });
  await waitUntilFailed();
  expect(failures()[0]).toMatchObject({ request_id: "upgraded-later" });
  await late.close();
});

test.each([false, true])("also for a completion on /v1 (stored: %p)", async (isStored) => {
  const response = await parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    headers: { "x-request-id": "asked-by-v1" },
    json: {
      model: "compatible/refused",
      messages: [{ role: "user", content: "Hello" }],
      ...(isStored && { metadata: { conversation_id: conversationId } }),
    },
  });
  const { id } = (await response.json()) as { id: string };
  await waitUntilFailed();
  expect(failures()[0]).toMatchObject({ request_id: "asked-by-v1", message_id: id.replace("chatcmpl-", "") });
});

test("also for a hook's post", async () => {
  const made = await parley.fetch(`/api/v1/conversations/${conversationId}/hooks`, {
    token: anna.access_token,
    json: { name: "Build" },
  });
  const { token } = (await made.json()) as { token: string };
  await parley.fetch(`/api/v1/hooks/${token}`, {
    headers: { "x-request-id": "posted" },
    json: { content: "Hello", reply: true },
  });
  await waitUntilFailed();
  expect(failures()[0]).toMatchObject({ request_id: "posted", message_id: expect.any(String) });
  expect(JSON.stringify(lines)).not.toContain(token);
});

test("a rejected key is logged as an error with its setting, once, and users see nothing of it", async () => {
  const ask = () =>
    parley.fetch("/v1/chat/completions", {
      token: anna.access_token,
      json: { model: "openai/unauthorized", messages: [{ role: "user", content: "Hello" }] },
    });
  const answers = await Promise.all(Array.from({ length: 10 }, async () => (await ask()).text()));
  const errors = lines.filter(({ level }) => level === "error");
  expect(errors).toMatchObject([
    {
      code: "provider_unauthorized",
      msg: expect.stringMatching(/^OPENAI_API_KEY was rejected by 127\.0\.0\.1:\d+ \(HTTP 401\)/),
    },
  ]);
  expect(answers.join()).not.toContain("OPENAI_API_KEY");
  expect(JSON.stringify(lines)).not.toContain("hunter2");
});

test("a failed title is logged with its answer and its request", async () => {
  const { id } = await createConversation(parley, anna, [], { title: "" });
  const response = await parley.fetch(`/api/v1/conversations/${id}/messages`, {
    token: anna.access_token,
    headers: { "x-request-id": "asked-untitled" },
    json: { content: "Hello", reply: true, model: "compatible/spare" },
  });
  const { reply } = (await response.json()) as Sent;
  await waitUntil(() => failures().some(({ task }) => task === "title"));
  for (const line of failures()) expect(line).toMatchObject({ message_id: reply.id, request_id: "asked-untitled" });
  await waitUntil(() => lines.some(({ msg }) => String(msg).startsWith("title could not be generated")));
  const line = lines.find(({ msg }) => String(msg).startsWith("title could not be generated"));
  expect(line).toMatchObject({ message_id: reply.id, request_id: "asked-untitled" });
});

test("an unreachable model is reported to readers without names of settings", async () => {
  provider.script("refused", { fault: "status", status: 404 });
  provider.script("spare", { fault: "status", status: 404 });
  const response = await parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: { model: "compatible/spare", messages: [{ role: "user", content: "Hello" }] },
  });
  await response.text();
  await waitUntilFailed();
  expect(failures()[0]?.msg).toMatch(/^model failed: .+ has no model spare \(404\): check its name in AI_MODELS/);
  const { text } = await send({ accept: "text/event-stream" });
  expect(text).not.toMatch(/AI_MODELS|_BASE_URL/);
});

test("a model whose circuit breaker opens is logged with the last failed answer", async () => {
  provider.script("spare", { fault: "status", status: 500 });
  const ask = (id: string) =>
    parley.fetch("/v1/chat/completions", {
      token: anna.access_token,
      headers: { "x-request-id": id },
      json: { model: "compatible/spare", messages: [{ role: "user", content: "Hello" }] },
    });
  for (const id of ["one", "two", "three"]) await (await ask(id)).text();
  const line = lines.find(({ state, model }) => state === "cooling_down" && model === "compatible/spare");
  expect(line).toMatchObject({ request_id: "three", message_id: expect.any(String) });
});
