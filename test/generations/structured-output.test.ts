import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { assembleAnswer } from "../acceptance/assemble-answer.ts";
import { insertAnswer } from "../support/answer.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream } from "../support/event-stream.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";
import { waitUntil } from "../support/wait-until.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: RestClient;
let ben: RestClient;
let outsider: RestClient;
let conversation_id: string;
let path: string;
let socket: TestSocket;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: provider.openaiUrl,
      ANTHROPIC_API_KEY: "sk-ant-test",
      ANTHROPIC_BASE_URL: provider.anthropicUrl,
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "openai/one,openai/gpt-4-turbo,anthropic/two",
      AI_MAX_RETRIES: "0",
      AI_PRICES: "openai/one=1/10",
    },
  });
  const accounts = await Promise.all([1, 2, 3].map(() => parley.register()));
  [anna, ben, outsider] = accounts.map((account) => createRestClient(parley, account)) as [
    RestClient,
    RestClient,
    RestClient,
  ];
});
beforeEach(async () => {
  provider.reset();
  conversation_id = (await createConversation(parley, anna.account, [ben.account], { reply_mode: "always" })).id;
  path = `/conversations/${conversation_id}/messages`;
  socket = await openSocket(parley.url, { token: ben.account.access_token });
  await socket.request({ type: "subscribe", conversation_id });
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const schema = {
  type: "object",
  properties: { city: { type: "string" }, people: { type: "integer" } },
  required: ["city", "people"],
  additionalProperties: false,
};
const validText = '{"city":"Wien","people":2000000}';
const validOutput = JSON.parse(validText);
const invalidText = '{"city":"Wien","people":"many"}';

const seenFrames = new Set<Frame>();
const sendQuestion = (fields: object = {}) =>
  anna.request<SentMessage>("POST", path, {
    content: "Which city?",
    reply_format: { name: "place", schema },
    ...fields,
  });
const listMessages = async () => (await anna.get<{ data: Message[] }>(path)).body.data;

/** Waits for the next completed answer on the socket, and expects REST to return the same answer. */
async function waitForAnswer(): Promise<Message> {
  const frame = await socket.waitFor(
    (candidate) => candidate.type === "message.completed" && !seenFrames.has(candidate),
    20_000,
  );
  seenFrames.add(frame);
  const data = frame.data as unknown as Message;
  expect((await listMessages()).findLast(({ role }) => role === "assistant")).toEqual(data);
  return data;
}

describe("an answer with a format", () => {
  test("has an `output` with the parsed text over REST, on the socket, and in the export", async () => {
    provider.script("one", { text: validText });
    expect((await sendQuestion()).status).toBe(201);
    expect(await waitForAnswer()).toMatchObject({
      status: "complete",
      content: validText,
      output: validOutput,
      error: null,
    });
    const exportResponse = await anna.get<unknown>(`/conversations/${conversation_id}/export?format=json`);
    expect(JSON.stringify(exportResponse.body)).toContain('"output":{"city":"Wien","people":2000000}');
    expect((await outsider.get(path)).status).toBe(404);
  });

  test("can be requested over a socket or as an event stream", async () => {
    provider.script("one", { text: validText });
    const sender = await openSocket(parley.url, { token: anna.account.access_token });
    const frame = { conversation_id, content: "Which city?", client_message_id: "c1", reply_format: { schema } };
    expect(await sender.request({ type: "message.send", ...frame })).toMatchObject({ type: "ack" });
    expect(await waitForAnswer()).toMatchObject({ status: "complete", output: validOutput });
    const json = { content: "Again?", reply_format: { schema } };
    const stream = await openStream(parley, path, { token: anna.account.access_token, json });
    await stream.closed;
    expect(stream.listFrames().at(-1)).toMatchObject({ type: "message.completed", data: { output: validOutput } });
  });

  test("has an `output`, unlike answers without a format and users' messages", async () => {
    provider.script("one", { text: validText });
    await sendQuestion({ reply_format: null });
    expect(await waitForAnswer()).toMatchObject({ status: "complete", content: validText, output: null });
    expect((await listMessages())[0]).toMatchObject({ role: "user", output: null });
  });

  test("is requested a second time if the text doesn't match, and both requests are charged", async () => {
    provider.script("one", { text: invalidText }, { text: validText });
    await sendQuestion();
    const answer = await waitForAnswer();
    expect(answer).toMatchObject({ status: "complete", content: validText, output: validOutput, model: "openai/one" });
    const resets = socket.frames.filter(({ type }) => type === "message.reset");
    expect(resets).toMatchObject([{ attempt: 2, text: "" }]);
    expect(assembleAnswer(socket.frames, answer.id).text).toBe(validText);
    const inputs = provider.listRequests("one").map(({ body }) => JSON.stringify(body).length);
    expect(inputs).toHaveLength(2);
    expect(answer.usage).toMatchObject({ input_tokens: (inputs[0] ?? 0) + (inputs[1] ?? 0), output_tokens: 2 });
    expect(answer.usage?.cost_usd).toBeGreaterThan(0);
  });

  test("fails, but keeps its text, if the text doesn't match on the second attempt either", async () => {
    provider.script("one", { text: invalidText });
    await sendQuestion();
    expect(await waitForAnswer()).toMatchObject({
      status: "failed",
      content: invalidText,
      output: null,
      finish_reason: "error",
      error: { code: "invalid_output", detail: expect.stringContaining("format") },
    });
    expect(provider.listRequests("one")).toHaveLength(2);
    expect(provider.listRequests("two")).toHaveLength(0);
  });

  test.each([
    ["length", "maximum length"],
    ["content_filter", "content filter"],
  ] as const)(
    "fails without a second request if it is truncated with the finish reason %s",
    async (finishReason, detail) => {
      provider.script("one", { text: '{"city":"Wi', finishReason });
      await sendQuestion();
      const error = { code: "invalid_output", detail: expect.stringContaining(detail) };
      expect(await waitForAnswer()).toMatchObject({ status: "failed", content: '{"city":"Wi', error });
      expect(provider.listRequests("one")).toHaveLength(1);
    },
  );

  test("is complete if it is truncated only after its last bracket", async () => {
    provider.script("one", { text: validText, finishReason: "length" });
    await sendQuestion();
    expect(await waitForAnswer()).toMatchObject({ status: "complete", finish_reason: "length", output: validOutput });
  });

  test("stays cancelled even if its text doesn't match", async () => {
    provider.script("one", { pieces: ['{"city":', '"Wien"', ',"people":1}'], fault: "stall", piecesBeforeFault: 2 });
    const sendResult = (await sendQuestion()).body;
    await socket.waitFor(({ type }) => type === "message.delta");
    await anna.request("POST", `${path}/${sendResult.reply?.id}/cancel`);
    const answer = await waitForAnswer();
    expect(answer).toMatchObject({ status: "cancelled", output: null, error: null });
    expect(answer.content).toStartWith('{"city":');
  });

  test("starts over with the next model that supports formats if the first model fails", async () => {
    provider.script("one", { pieces: ['{"city":', '"Gr', "never"], fault: "cut", piecesBeforeFault: 2 });
    provider.script("two", { text: validText });
    await sendQuestion();
    expect(await waitForAnswer()).toMatchObject({
      status: "complete",
      content: validText,
      output: validOutput,
      model: "anthropic/two",
    });
    expect(provider.listRequests("gpt-4-turbo")).toHaveLength(0);
  });

  test("replaces values in its `output` that Postgres can't store", async () => {
    const text = '{"city":"a\\u0000b\\ud800","people":9007199254740993}';
    provider.script("one", { pieces: [text] });
    await sendQuestion();
    const output = { city: "a\ufffdb\ufffd", people: 9_007_199_254_740_992 };
    expect(await waitForAnswer()).toMatchObject({ status: "complete", content: text, output });
  });

  test("keeps its format when another instance takes it over", async () => {
    provider.script("one", { text: validText });
    const question = (await sendQuestion({ reply: false })).body.message;
    const row = await insertAnswer(parley.database, {
      conversationId: conversation_id,
      seq: question.seq + 1,
      parentId: question.id,
      requestedBy: anna.id,
      leaseMs: 0,
      text: '{"city":"Gr',
    });
    await parley.database`
      update generations set reply_format = ${parley.database.json({ schema })}, attempt = 1 where id = ${row.id}`;
    await parley.database`update conversations set last_seq = ${row.seq} where id = ${conversation_id}`;
    const answer = await waitForAnswer();
    expect(answer).toMatchObject({ id: row.message_id, status: "complete", content: validText, output: validOutput });
    expect(socket.list("message.reset").at(-1)).toMatchObject({ text: "", attempt: 2 });
  });

  test("keeps its format when it is regenerated", async () => {
    provider.script("one", { text: validText });
    const { message } = (await sendQuestion()).body;
    await waitForAnswer();
    provider.script("two", { text: '{"city":"Graz","people":1}' });
    await anna.request("POST", `${path}/${message.id}/regenerate`, { model: "anthropic/two" });
    expect(await waitForAnswer()).toMatchObject({ output: { city: "Graz", people: 1 } });
    const rejectedResponse = await anna.request<ProblemBody>("POST", `${path}/${message.id}/regenerate`, {
      model: "openai/gpt-4-turbo",
    });
    expect(rejectedResponse).toMatchObject({
      status: 422,
      body: { code: "invalid", errors: [{ pointer: "#/model" }] },
    });
  });

  test("must match the format only in its last step if it uses tools", async () => {
    await anna.request("PATCH", `/conversations/${conversation_id}`, { tools: true });
    const call = { name: "search_documents", arguments: '{"query":"Wien"}' };
    const textBeforeCall = "Let me look. ";
    provider.script("one", { pieces: [textBeforeCall], toolCalls: [call] }, { text: invalidText }, { text: validText });
    await sendQuestion();
    expect(await waitForAnswer()).toMatchObject({
      status: "complete",
      content: `${textBeforeCall}${validText}`,
      output: validOutput,
    });
    expect(socket.list("message.reset").at(-1)).toMatchObject({ text: textBeforeCall });
    const bodies = provider.listRequests("one").map(({ body }) => body);
    expect(bodies.map(({ tool_choice }) => tool_choice ?? null)).toEqual([null, null, "none"]);
    expect(bodies.map(({ text }) => (text as { format: { type: string } }).format.type)).toEqual(
      new Array(3).fill("json_schema"),
    );
  });
});

describe("a format is rejected before anything is stored", () => {
  const invalidFormats: [string, object, string][] = [
    [
      "if its schema is invalid",
      { schema: { properties: { a: { type: "text" } } } },
      "#/reply_format/schema/properties/a/type",
    ],
    [
      "if its schema has a remote reference",
      { schema: { $ref: "https://example.com/s" } },
      "#/reply_format/schema/$ref",
    ],
    ["if its schema is infinitely recursive", { schema: { $ref: "#" } }, "#/reply_format/schema"],
    ["if it has no schema", {}, "#/reply_format/schema"],
    ["if its schema is too long", { schema: { description: "x".repeat(16_385) } }, "#/reply_format/schema"],
    ["if its name is invalid", { name: "a b", schema }, "#/reply_format/name"],
  ];
  test.each(invalidFormats)("%s", async (_name, reply_format, pointer) => {
    const { status, body } = await anna.request<ProblemBody>("POST", path, { content: "?", reply_format });
    expect(status).toBe(422);
    expect(body).toMatchObject({ code: "invalid", errors: [{ pointer }] });
    expect(await listMessages()).toEqual([]);
    const response = await socket.request({
      type: "message.send",
      conversation_id,
      content: "?",
      client_message_id: "c1",
      reply_format,
    });
    expect(response).toMatchObject({ type: "error", code: "invalid" });
    expect(await listMessages()).toEqual([]);
  });

  test("if the requested model doesn't support formats", async () => {
    const { status, body } = await sendQuestion({ model: "openai/gpt-4-turbo" });
    expect(status).toBe(422);
    expect(body).toMatchObject({ detail: expect.stringContaining("openai/gpt-4-turbo") });
    expect(await listMessages()).toEqual([]);
    expect(provider.requests).toHaveLength(0);
  });

  test("if no configured model supports formats", async () => {
    const offlineApp = await startApp();
    try {
      const account = await offlineApp.register();
      const restClient = createRestClient(offlineApp, account);
      const messagesPath = `/conversations/${(await createConversation(offlineApp, account)).id}/messages`;
      const sendResponse = await restClient.request<ProblemBody>("POST", messagesPath, {
        content: "?",
        reply_format: { schema },
      });
      expect(sendResponse).toMatchObject({ status: 422, body: { detail: expect.stringContaining("AI_MODELS") } });
      expect((await restClient.get<{ data: Message[] }>(messagesPath)).body.data).toEqual([]);
    } finally {
      await offlineApp.stop();
    }
  });
});

describe("schemas designed to be slow", () => {
  const createForkingSchema = (levels: number) => {
    const defs: Record<string, unknown> = { [`d${levels}`]: { type: "number" } };
    for (let level = 0; level < levels; level += 1)
      defs[`d${level}`] = { allOf: [{ $ref: `#/$defs/d${level + 1}` }, { $ref: `#/$defs/d${level + 1}` }] };
    return { $ref: "#/$defs/d0", $defs: defs };
  };

  test("are rejected, or their validation is aborted, without blocking other requests", async () => {
    expect((await sendQuestion({ reply_format: { schema: createForkingSchema(50) } })).status).toBe(422);
    // The first schema's pattern causes catastrophic backtracking in JavaScript's engine. The second schema's recursion
    // branches at each level of the answer.
    const child = { properties: { c: { $ref: "#" } } };
    const slowSchemas: [object, string][] = [
      [{ properties: { a: { pattern: "^(a+)+$" } } }, JSON.stringify({ a: `${"a".repeat(50_000)}!` })],
      [
        {
          anyOf: [
            { ...child, required: ["x"] },
            { ...child, required: ["y"] },
          ],
        },
        `${'{"c":'.repeat(80)}{}${"}".repeat(80)}`,
      ],
    ];
    for (const [slowSchema, text] of slowSchemas) {
      provider.script("one", { pieces: [text] });
      await sendQuestion({ reply_format: { schema: slowSchema } });
      expect(await waitForAnswer()).toMatchObject({
        status: "failed",
        content: text,
        error: { code: "invalid_output" },
      });
    }
    provider.script("one", { text: "Hello." });
    await ben.request("POST", path, { content: "?", reply: true });
    await waitUntil(async () => (await listMessages()).at(-1)?.content === "Hello.");
  });
});
