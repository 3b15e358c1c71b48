import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import OpenAI from "openai";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openSocket } from "../support/socket.ts";
import { waitUntil } from "../support/wait-until.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: Account;
let ben: Account;
let outsider: Account;
let conversation_id: string;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one", AI_MAX_RETRIES: "0" },
  });
  [anna, ben, outsider] = await Promise.all([parley.register(), parley.register(), parley.register()]);
});
beforeEach(async () => {
  provider.reset();
  conversation_id = (await createConversation(parley, anna, [ben])).id;
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const complete = (fields: object = {}, signal?: AbortSignal) =>
  new OpenAI({ apiKey: anna.access_token, baseURL: `${parley.url}/v1`, maxRetries: 0 }).chat.completions.create(
    {
      model: "compatible/one",
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: "What is a fox?" },
      ],
      metadata: { conversation_id },
      ...fields,
    },
    { signal },
  );
const listMessages = async (): Promise<Message[]> => {
  const path = `/api/v1/conversations/${conversation_id}/messages`;
  const response = await parley.fetch(path, { token: anna.access_token });
  return ((await response.json()) as { data: Message[] }).data;
};

describe("an exchange with a conversation ID in its metadata", () => {
  test("is stored as two messages, and pushed to subscribers", async () => {
    provider.script("one", { text: "A red animal." });
    const socket = await openSocket(parley.url, { token: ben.access_token });
    await socket.request({ type: "subscribe", conversation_id });
    const completion = await complete();
    const [question, answer, ...otherMessages] = await listMessages();
    expect(otherMessages).toEqual([]);
    expect(question).toMatchObject({ role: "user", content: "What is a fox?", author: { id: anna.user.id } });
    expect(answer).toMatchObject({
      id: completion.id.replace("chatcmpl-", ""),
      role: "assistant",
      content: "A red animal.",
      status: "complete",
      model: "compatible/one",
      finish_reason: "stop",
      parent_id: question?.id ?? "",
      metadata: { models: ["compatible/one"] },
      usage: { output_tokens: 3 },
    });
    await socket.waitFor((frame) => frame.type === "message.created" && frame.data?.role === "assistant");
    const createdFrames = socket.frames.filter(({ type }) => type === "message.created");
    expect(createdFrames.map(({ data }) => data)).toEqual([question, answer] as never);
    expect((answer?.seq ?? 0) - (question?.seq ?? 0)).toBe(1);
    await socket.close();
  });

  test("continues when its reader disconnects", async () => {
    provider.script("one", { text: "one two three four five six seven eight", pieceDelayMs: 40 });
    const abort = new AbortController();
    const stream = await complete({ stream: true }, abort.signal);
    for await (const _ of stream as unknown as AsyncIterable<unknown>) break;
    abort.abort();
    await waitUntil(async () => (await listMessages()).length === 2);
    expect((await listMessages())[1]).toMatchObject({
      content: "one two three four five six seven eight",
      status: "complete",
    });
  });

  test("keeps the partial text when the model's stream is cut off", async () => {
    provider.script("one", { pieces: ["A red ", "animal"], fault: "cut", piecesBeforeFault: 1 });
    const stream = (await complete({ stream: true })) as unknown as AsyncIterable<unknown>;
    const read = async () => {
      for await (const _ of stream);
    };
    await expect(read()).rejects.toThrow();
    await waitUntil(async () => (await listMessages()).length === 2);
    expect((await listMessages())[1]).toMatchObject({
      content: "A red ",
      status: "failed",
      finish_reason: "error",
      error: { code: "provider_unavailable" },
    });
  });

  test("is not stored if no model answers", async () => {
    provider.script("one", { fault: "status", status: 500 });
    await expect(Promise.resolve(complete())).rejects.toMatchObject({ status: 503 });
    await waitUntil(async () => provider.requests.length > 0);
    await Bun.sleep(50);
    expect(await listMessages()).toEqual([]);
  });

  test("keeps the tool calls that the client must execute", async () => {
    provider.script("one", { toolCalls: [{ name: "look_up", arguments: "{}" }] });
    await complete({ tools: [{ type: "function", function: { name: "look_up" } }] });
    const [, answer] = await listMessages();
    expect(answer).toMatchObject({
      content: "",
      finish_reason: "tool_calls",
      metadata: { tool_calls: [{ type: "function", function: { name: "look_up", arguments: "{}" } }] },
    });
  });

  test("is cut off at the end of a shutdown, and its partial answer is stored", async () => {
    const testDatabase = await createTestDatabase();
    const drainingApp = await startApp({
      database: testDatabase,
      config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/slow", AI_MAX_RETRIES: "0" },
    });
    const { access_token: token, ...account } = await drainingApp.register();
    const { id } = await createConversation(drainingApp, { access_token: token, ...account });
    provider.script("slow", { pieces: Array(2_000).fill("word "), pieceDelayMs: 10 });
    const openStream = (metadata: object) =>
      drainingApp.fetch("/v1/chat/completions", {
        token,
        json: { model: "compatible/slow", messages: [{ role: "user", content: "Talk." }], stream: true, metadata },
      });
    const streams = await Promise.all([openStream({}), openStream({ conversation_id: id })]);
    const streamTexts = Promise.all(streams.map((stream) => stream.text()));
    await drainingApp.stop();
    for (const text of await streamTexts) {
      expect(text).not.toContain("[DONE]");
      expect(text).toContain('"code":"draining"');
    }
    const [answer] = await testDatabase.database<{ status: string; content: string }[]>`
      select status, content from messages where conversation_id = ${id} and role = 'assistant'`;
    expect(answer).toMatchObject({ status: "cancelled", content: expect.stringMatching(/^word /) });
    await testDatabase.database.end({ timeout: 1 });
  });

  test("requires a caller who can write to the conversation", async () => {
    const path = "/v1/chat/completions";
    const json = {
      model: "compatible/one",
      messages: [{ role: "user", content: "Hello" }],
      metadata: { conversation_id },
    };
    const outsiderResponse = await parley.fetch(path, { token: outsider.access_token, json });
    expect([
      outsiderResponse.status,
      ((await outsiderResponse.json()) as { error: { code: string } }).error.code,
    ]).toEqual([404, "not_found"]);
    await parley.fetch(`/api/v1/conversations/${conversation_id}/members`, {
      token: anna.access_token,
      json: { user_id: ben.user.id, role: "viewer" },
    });
    const viewer = await parley.fetch(path, { token: ben.access_token, json });
    expect([viewer.status, ((await viewer.json()) as { error: { code: string } }).error.code]).toEqual([
      403,
      "forbidden",
    ]);
    expect(provider.requests.length).toBe(0);
    expect(await listMessages()).toEqual([]);
  });
});

describe("an API key", () => {
  const completeWithScopes = async (scopes: string[], metadata?: object) => {
    const json = { name: "Test", scopes };
    const keyResponse = await parley.fetch("/api/v1/api-keys", { token: anna.access_token, json });
    const { key } = (await keyResponse.json()) as { key: string };
    const response = await parley.fetch("/v1/chat/completions", {
      token: key,
      json: { model: "compatible/one", messages: [{ role: "user", content: "Hello" }], ...(metadata && { metadata }) },
    });
    return { status: response.status, body: (await response.json()) as { error?: Record<string, string> } };
  };

  test("needs messages:write in addition to chat:completions to write to any conversation", async () => {
    for (const id of [conversation_id, conversation_id.toUpperCase(), "00000000-0000-7000-8000-000000000000"]) {
      const { status, body } = await completeWithScopes(["chat:completions"], { conversation_id: id });
      expect([status, body.error]).toMatchObject([403, { type: "permission_error", code: "forbidden" }]);
      expect(body.error?.message).toContain("messages:write");
    }
    expect(provider.requests).toEqual([]);
    expect(await listMessages()).toEqual([]);
    expect((await completeWithScopes(["chat:completions"])).status).toBe(200);
    expect((await completeWithScopes(["chat:completions", "messages:write"], { conversation_id })).status).toBe(200);
    expect((await completeWithScopes(["messages:write"], { conversation_id })).status).toBe(403);
    expect(await listMessages()).toHaveLength(2);
  });
});

test("assistant messages sent by a client are never shown as a model's answers", async () => {
  const FORGED = "forgery5c1e";
  provider.script("one", { text: "The model's own words." });
  const socket = await openSocket(parley.url, { token: ben.access_token });
  await socket.request({ type: "subscribe", conversation_id });
  const histories = [
    [
      { role: "user", content: "First question" },
      { role: "assistant", content: `${FORGED} as a history` },
      { role: "user", content: "Second question" },
    ],
    [
      { role: "user", content: "Third question" },
      { role: "assistant", content: `${FORGED} to be continued` },
    ],
    [
      { role: "user", content: "Fourth question" },
      {
        role: "assistant",
        content: FORGED,
        tool_calls: [{ id: "call", type: "function", function: { name: FORGED, arguments: "{}" } }],
      },
      { role: "tool", tool_call_id: "call", content: `${FORGED} as a result` },
    ],
  ];
  for (const history of histories) await complete({ messages: history });
  expect(provider.requests.every(({ body }) => JSON.stringify(body).includes(FORGED))).toBe(true);
  const storedMessages = await listMessages();
  expect(storedMessages.map(({ role, content, supplied, model }) => [role, content, supplied, model])).toEqual([
    ["user", "Second question", false, null],
    ["assistant", "The model's own words.", false, "compatible/one"],
    ["assistant", "The model's own words.", false, "compatible/one"],
    ["assistant", "The model's own words.", false, "compatible/one"],
  ]);
  await socket.waitFor(() => socket.list("message.created").length === 4);
  const token = anna.access_token;
  const outputs = await Promise.all(
    [
      `/api/v1/conversations/${conversation_id}/events`,
      `/api/v1/conversations/${conversation_id}/export?format=json`,
      `/api/v1/search?q=${FORGED}`,
      "/api/v1/me/export",
    ].map(async (path) => (await parley.fetch(path, { token })).text()),
  );
  expect([...outputs, JSON.stringify([storedMessages, socket.frames])].filter((text) => text.includes(FORGED))).toEqual(
    [],
  );
  await socket.close();
});

test("an insufficient budget causes OpenAI's quota error, and no tokens stay reserved after an answer", async () => {
  const startWithBudget = (tokens: string) =>
    startApp({
      config: {
        COMPATIBLE_BASE_URL: provider.openaiUrl,
        AI_MODELS: "compatible/one",
        BUDGET_ANSWER_TOKENS: "100",
        BUDGET_USER_TOKENS_PER_DAY: tokens,
      },
    });
  const json = { model: "compatible/one", messages: [{ role: "user", content: "Hello" }] };
  const lowBudgetApp = await startWithBudget("101");
  const { access_token: token } = await lowBudgetApp.register();
  const rejectedResponse = await lowBudgetApp.fetch("/v1/chat/completions", { token, json });
  expect(rejectedResponse.status).toBe(429);
  expect(Number(rejectedResponse.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(await rejectedResponse.json()).toMatchObject({
    error: { code: "insufficient_quota", type: "rate_limit_error" },
  });
  expect(provider.requests.length).toBe(0);
  await lowBudgetApp.stop();

  const highBudgetApp = await startWithBudget("1000000");
  const { access_token } = await highBudgetApp.register();
  const response = await highBudgetApp.fetch("/v1/chat/completions", { token: access_token, json });
  const { usage } = (await response.json()) as { usage: { total_tokens: number } };
  const usageSummary = (await (await highBudgetApp.fetch("/api/v1/me/usage", { token: access_token })).json()) as {
    day: object;
  };
  expect(usageSummary.day).toMatchObject({ spent_tokens: usage.total_tokens, reserved_tokens: 0 });
  expect(provider.requests.at(-1)?.body.max_tokens).toBe(100);
  await highBudgetApp.stop();
});
