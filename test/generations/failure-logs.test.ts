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

const listFailures = () => lines.filter(({ model, code }) => model !== undefined && code !== undefined);
const waitForFailure = () => waitUntil(() => listFailures().length > 0);
type SendResult = { message: { id: string }; reply: { id: string } };

async function postToConversation(headers: Record<string, string> = {}, path = "messages") {
  const response = await parley.fetch(`/api/v1/conversations/${conversationId}/${path}`, {
    token: anna.access_token,
    headers,
    json: path === "messages" ? { content: "Hello", reply: true } : {},
  });
  const text = await response.text();
  return { response, text };
}

test("a model failure is logged with the message and request IDs", async () => {
  const { text } = await postToConversation({ "x-request-id": "rest-request" });
  const { reply } = JSON.parse(text) as SendResult;
  await waitForFailure();
  expect(listFailures()).toMatchObject([
    { model: "compatible/refused", level: "warn", message_id: reply.id, request_id: "rest-request" },
  ]);

  await waitUntil(async () => {
    const path = `/api/v1/conversations/${conversationId}/messages/${reply.id}`;
    const response = await parley.fetch(path, { token: anna.access_token });
    return ((await response.json()) as { status: string }).status === "complete";
  });
  lines.splice(0);
  const regenerationResponse = await postToConversation(
    { "x-request-id": "regenerate-request" },
    `messages/${reply.id}/regenerate`,
  );
  const newAnswer = (JSON.parse(regenerationResponse.text) as SendResult).reply;
  await waitForFailure();
  expect(listFailures()[0]).toMatchObject({ message_id: newAnswer.id, request_id: "regenerate-request" });
});

test("a model failure in a streamed reply is logged with the message and request IDs", async () => {
  const { text } = await postToConversation({ "x-request-id": "stream-request", accept: "text/event-stream" });
  const [, id] = /"role":"assistant".*?/.exec(text) ? (/"message_id":"([^"]+)"/.exec(text) ?? []) : [];
  expect(listFailures()[0]).toMatchObject({ request_id: "stream-request", message_id: id });
});

test("a model failure in a reply requested over a socket is logged with the ID of the upgrade request", async () => {
  const socket = await openSocket(parley.url, {
    token: anna.access_token,
    headers: { "x-request-id": "upgrade-request" },
  });
  await socket.request({
    type: "message.send",
    conversation_id: conversationId,
    client_message_id: crypto.randomUUID(),
    content: "Hello",
    reply: true,
  });
  await waitForFailure();
  expect(listFailures()[0]).toMatchObject({ request_id: "upgrade-request", message_id: expect.any(String) });
  await socket.close();

  lines.splice(0);
  const lateAuthSocket = await openSocket(parley.url, { headers: { "x-request-id": "late-auth-upgrade-request" } });
  await lateAuthSocket.request({ type: "auth", token: anna.access_token });
  await lateAuthSocket.request({
    type: "message.send",
    conversation_id: conversationId,
    client_message_id: crypto.randomUUID(),
    content: "Hello",
    reply: true,
  });
  await waitForFailure();
  expect(listFailures()[0]).toMatchObject({ request_id: "late-auth-upgrade-request" });
  await lateAuthSocket.close();
});

test.each([false, true])(
  "a model failure in a /v1 request is logged with the message and request IDs (stored: %p)",
  async (isStored) => {
    const response = await parley.fetch("/v1/chat/completions", {
      token: anna.access_token,
      headers: { "x-request-id": "v1-request" },
      json: {
        model: "compatible/refused",
        messages: [{ role: "user", content: "Hello" }],
        ...(isStored && { metadata: { conversation_id: conversationId } }),
      },
    });
    const { id } = (await response.json()) as { id: string };
    await waitForFailure();
    expect(listFailures()[0]).toMatchObject({ request_id: "v1-request", message_id: id.replace("chatcmpl-", "") });
  },
);

test("a model failure in a reply to a hook's post is logged with the message and request IDs", async () => {
  const creationResponse = await parley.fetch(`/api/v1/conversations/${conversationId}/hooks`, {
    token: anna.access_token,
    json: { name: "Build" },
  });
  const { token } = (await creationResponse.json()) as { token: string };
  await parley.fetch(`/api/v1/hooks/${token}`, {
    headers: { "x-request-id": "hook-request" },
    json: { content: "Hello", reply: true },
  });
  await waitForFailure();
  expect(listFailures()[0]).toMatchObject({ request_id: "hook-request", message_id: expect.any(String) });
  expect(JSON.stringify(lines)).not.toContain(token);
});

test("a rejected API key is logged once, as an error with its setting's name, which users don't see", async () => {
  const requestCompletion = () =>
    parley.fetch("/v1/chat/completions", {
      token: anna.access_token,
      json: { model: "openai/unauthorized", messages: [{ role: "user", content: "Hello" }] },
    });
  const responseTexts = await Promise.all(Array.from({ length: 10 }, async () => (await requestCompletion()).text()));
  const errors = lines.filter(({ level }) => level === "error");
  expect(errors).toMatchObject([
    {
      code: "provider_unauthorized",
      msg: expect.stringMatching(/^OPENAI_API_KEY was rejected by 127\.0\.0\.1:\d+ \(HTTP 401\)/),
    },
  ]);
  expect(responseTexts.join()).not.toContain("OPENAI_API_KEY");
  expect(JSON.stringify(lines)).not.toContain("hunter2");
});

test("a failed title generation is logged with the answer's message ID and the request ID", async () => {
  const { id } = await createConversation(parley, anna, [], { title: "" });
  const response = await parley.fetch(`/api/v1/conversations/${id}/messages`, {
    token: anna.access_token,
    headers: { "x-request-id": "title-request" },
    json: { content: "Hello", reply: true, model: "compatible/spare" },
  });
  const { reply } = (await response.json()) as SendResult;
  await waitUntil(() => listFailures().some(({ task }) => task === "title"));
  for (const line of listFailures()) expect(line).toMatchObject({ message_id: reply.id, request_id: "title-request" });
  await waitUntil(() => lines.some(({ msg }) => String(msg).startsWith("title could not be generated")));
  const line = lines.find(({ msg }) => String(msg).startsWith("title could not be generated"));
  expect(line).toMatchObject({ message_id: reply.id, request_id: "title-request" });
});

test("the error for a missing model doesn't show the names of settings to readers", async () => {
  provider.script("refused", { fault: "status", status: 404 });
  provider.script("spare", { fault: "status", status: 404 });
  const response = await parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: { model: "compatible/spare", messages: [{ role: "user", content: "Hello" }] },
  });
  await response.text();
  await waitForFailure();
  expect(listFailures()[0]?.msg).toMatch(/^model failed: .+ has no model spare \(404\): check its name in AI_MODELS/);
  const { text } = await postToConversation({ accept: "text/event-stream" });
  expect(text).not.toMatch(/AI_MODELS|_BASE_URL/);
});

test("opening a circuit breaker is logged with the IDs of the last failed answer", async () => {
  provider.script("spare", { fault: "status", status: 500 });
  const complete = (id: string) =>
    parley.fetch("/v1/chat/completions", {
      token: anna.access_token,
      headers: { "x-request-id": id },
      json: { model: "compatible/spare", messages: [{ role: "user", content: "Hello" }] },
    });
  for (const id of ["one", "two", "three"]) await (await complete(id)).text();
  const line = lines.find(({ state, model }) => state === "cooling_down" && model === "compatible/spare");
  expect(line).toMatchObject({ request_id: "three", message_id: expect.any(String) });
});
