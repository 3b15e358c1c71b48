import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { readAnswer } from "../acceptance/reader.ts";
import { insertAnswer } from "../support/answer.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream } from "../support/event-stream.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";
import { waitUntil } from "../support/wait-until.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: Rest;
let ben: Rest;
let outsider: Rest;
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
  [anna, ben, outsider] = accounts.map((account) => createRest(parley, account)) as [Rest, Rest, Rest];
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
const value = JSON.parse(validText);
const invalidText = '{"city":"Wien","people":"many"}';

const read = new Set<Frame>();
const send = (more: object = {}) =>
  anna.request<SentMessage>("POST", path, { content: "Which city?", reply_format: { name: "place", schema }, ...more });
const list = async () => (await anna.get<{ data: Message[] }>(path)).body.data;

/** The answer as a socket reader has it at its end; the same over REST. */
async function readEnd(): Promise<Message> {
  const frame = await socket.waitFor((other) => other.type === "message.completed" && !read.has(other), 20_000);
  read.add(frame);
  const data = frame.data as unknown as Message;
  expect((await list()).findLast(({ role }) => role === "assistant")).toEqual(data);
  return data;
}

describe("an answer in a format", () => {
  test("is parsed into output: over REST, on the socket, in history and export", async () => {
    provider.script("one", { text: validText });
    expect((await send()).status).toBe(201);
    expect(await readEnd()).toMatchObject({ status: "complete", content: validText, output: value, error: null });
    const exported = await anna.get<unknown>(`/conversations/${conversation_id}/export?format=json`);
    expect(JSON.stringify(exported.body)).toContain('"output":{"city":"Wien","people":2000000}');
    expect((await outsider.get(path)).status).toBe(404);
  });

  test("works over a socket, and as an event stream", async () => {
    provider.script("one", { text: validText });
    const sender = await openSocket(parley.url, { token: anna.account.access_token });
    const frame = { conversation_id, content: "Which city?", client_message_id: "c1", reply_format: { schema } };
    expect(await sender.request({ type: "message.send", ...frame })).toMatchObject({ type: "ack" });
    expect(await readEnd()).toMatchObject({ status: "complete", output: value });
    const json = { content: "Again?", reply_format: { schema } };
    const stream = await openStream(parley, path, { token: anna.account.access_token, json });
    await stream.ended;
    expect(stream.frames().at(-1)).toMatchObject({ type: "message.completed", data: { output: value } });
  });

  test("without a format, and for a user's message, output is null", async () => {
    provider.script("one", { text: validText });
    await send({ reply_format: null });
    expect(await readEnd()).toMatchObject({ status: "complete", content: validText, output: null });
    expect((await list())[0]).toMatchObject({ role: "user", output: null });
  });

  test("is requested again if the text doesn't match; readers start over, and both are charged", async () => {
    provider.script("one", { text: invalidText }, { text: validText });
    await send();
    const answer = await readEnd();
    expect(answer).toMatchObject({ status: "complete", content: validText, output: value, model: "openai/one" });
    const resets = socket.frames.filter(({ type }) => type === "message.reset");
    expect(resets).toMatchObject([{ attempt: 2, text: "" }]);
    expect(readAnswer(socket.frames, answer.id).text).toBe(validText);
    const inputs = provider.requestsOf("one").map(({ body }) => JSON.stringify(body).length);
    expect(inputs).toHaveLength(2);
    expect(answer.usage).toMatchObject({ input_tokens: (inputs[0] ?? 0) + (inputs[1] ?? 0), output_tokens: 2 });
    expect(answer.usage?.cost_usd).toBeGreaterThan(0);
  });

  test("that never matches fails with the text", async () => {
    provider.script("one", { text: invalidText });
    await send();
    expect(await readEnd()).toMatchObject({
      status: "failed",
      content: invalidText,
      output: null,
      finish_reason: "error",
      error: { code: "invalid_output", detail: expect.stringContaining("format") },
    });
    expect(provider.requestsOf("one")).toHaveLength(2);
    expect(provider.requestsOf("two")).toHaveLength(0);
  });

  test.each([
    ["length", "maximum length"],
    ["content_filter", "content filter"],
  ] as const)("cut off by %s fails with that reason, and isn't requested again", async (finish, detail) => {
    provider.script("one", { text: '{"city":"Wi', finish });
    await send();
    const error = { code: "invalid_output", detail: expect.stringContaining(detail) };
    expect(await readEnd()).toMatchObject({ status: "failed", content: '{"city":"Wi', error });
    expect(provider.requestsOf("one")).toHaveLength(1);
  });

  test("cut off after its last bracket is complete", async () => {
    provider.script("one", { text: validText, finish: "length" });
    await send();
    expect(await readEnd()).toMatchObject({ status: "complete", finish_reason: "length", output: value });
  });

  test("stays cancelled", async () => {
    provider.script("one", { pieces: ['{"city":', '"Wien"', ',"people":1}'], fault: "stall", after: 2 });
    const sent = (await send()).body;
    await socket.waitFor(({ type }) => type === "message.delta");
    await anna.request("POST", `${path}/${sent.reply?.id}/cancel`);
    const answer = await readEnd();
    expect(answer).toMatchObject({ status: "cancelled", output: null, error: null });
    expect(answer.content).toStartWith('{"city":');
  });

  test("starts over with the next capable model, and skips others", async () => {
    provider.script("one", { pieces: ['{"city":', '"Gr', "never"], fault: "cut", after: 2 });
    provider.script("two", { text: validText });
    await send();
    expect(await readEnd()).toMatchObject({
      status: "complete",
      content: validText,
      output: value,
      model: "anthropic/two",
    });
    expect(provider.requestsOf("gpt-4-turbo")).toHaveLength(0);
  });

  test("stores values that Postgres can't represent in another form", async () => {
    const text = '{"city":"a\\u0000b\\ud800","people":9007199254740993}';
    provider.script("one", { pieces: [text] });
    await send();
    const output = { city: "a\ufffdb\ufffd", people: 9_007_199_254_740_992 };
    expect(await readEnd()).toMatchObject({ status: "complete", content: text, output });
  });

  test("keeps its format when another instance takes it over", async () => {
    provider.script("one", { text: validText });
    const question = (await send({ reply: false })).body.message;
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
    const answer = await readEnd();
    expect(answer).toMatchObject({ id: row.message_id, status: "complete", content: validText, output: value });
    expect(socket.list("message.reset").at(-1)).toMatchObject({ text: "", attempt: 2 });
  });

  test("of a regenerated answer has the format too", async () => {
    provider.script("one", { text: validText });
    const { message } = (await send()).body;
    await readEnd();
    provider.script("two", { text: '{"city":"Graz","people":1}' });
    await anna.request("POST", `${path}/${message.id}/regenerate`, { model: "anthropic/two" });
    expect(await readEnd()).toMatchObject({ output: { city: "Graz", people: 1 } });
    const unable = await anna.request<ProblemBody>("POST", `${path}/${message.id}/regenerate`, {
      model: "openai/gpt-4-turbo",
    });
    expect(unable).toMatchObject({ status: 422, body: { code: "invalid", errors: [{ pointer: "#/model" }] } });
  });

  test("with tools, the last step has it", async () => {
    await anna.request("PATCH", `/conversations/${conversation_id}`, { tools: true });
    const call = { name: "search_documents", arguments: '{"query":"Wien"}' };
    const before = "Let me look. ";
    provider.script("one", { pieces: [before], toolCalls: [call] }, { text: invalidText }, { text: validText });
    await send();
    expect(await readEnd()).toMatchObject({ status: "complete", content: `${before}${validText}`, output: value });
    expect(socket.list("message.reset").at(-1)).toMatchObject({ text: before });
    const bodies = provider.requestsOf("one").map(({ body }) => body);
    expect(bodies.map(({ tool_choice }) => tool_choice ?? null)).toEqual([null, null, "none"]);
    expect(bodies.map(({ text }) => (text as { format: { type: string } }).format.type)).toEqual(
      new Array(3).fill("json_schema"),
    );
  });
});

describe("an unsupported format is rejected before anything is stored", () => {
  const refused: [string, object, string][] = [
    [
      "an invalid schema",
      { schema: { properties: { a: { type: "text" } } } },
      "#/reply_format/schema/properties/a/type",
    ],
    ["a remote reference", { schema: { $ref: "https://example.com/s" } }, "#/reply_format/schema/$ref"],
    ["an endless schema", { schema: { $ref: "#" } }, "#/reply_format/schema"],
    ["no schema", {}, "#/reply_format/schema"],
    ["a schema that is too long", { schema: { description: "x".repeat(16_385) } }, "#/reply_format/schema"],
    ["an invalid name", { name: "a b", schema }, "#/reply_format/name"],
  ];
  test.each(refused)("%s", async (_name, reply_format, pointer) => {
    const { status, body } = await anna.request<ProblemBody>("POST", path, { content: "?", reply_format });
    expect(status).toBe(422);
    expect(body).toMatchObject({ code: "invalid", errors: [{ pointer }] });
    expect(await list()).toEqual([]);
    const answer = await socket.request({
      type: "message.send",
      conversation_id,
      content: "?",
      client_message_id: "c1",
      reply_format,
    });
    expect(answer).toMatchObject({ type: "error", code: "invalid" });
    expect(await list()).toEqual([]);
  });

  test("by the requested model", async () => {
    const { status, body } = await send({ model: "openai/gpt-4-turbo" });
    expect(status).toBe(422);
    expect(body).toMatchObject({ detail: expect.stringContaining("openai/gpt-4-turbo") });
    expect(await list()).toEqual([]);
    expect(provider.requests).toHaveLength(0);
  });

  test("if no configured model supports it", async () => {
    const offline = await startApp();
    try {
      const account = await offline.register();
      const rest = createRest(offline, account);
      const at = `/conversations/${(await createConversation(offline, account)).id}/messages`;
      const sent = await rest.request<ProblemBody>("POST", at, { content: "?", reply_format: { schema } });
      expect(sent).toMatchObject({ status: 422, body: { detail: expect.stringContaining("AI_MODELS") } });
      expect((await rest.get<{ data: Message[] }>(at)).body.data).toEqual([]);
    } finally {
      await offline.stop();
    }
  });
});

describe("schemas designed to be slow", () => {
  const forks = (levels: number) => {
    const defs: Record<string, unknown> = { [`d${levels}`]: { type: "number" } };
    for (let at = 0; at < levels; at += 1)
      defs[`d${at}`] = { allOf: [{ $ref: `#/$defs/d${at + 1}` }, { $ref: `#/$defs/d${at + 1}` }] };
    return { $ref: "#/$defs/d0", $defs: defs };
  };

  test("are rejected or aborted while other requests are answered", async () => {
    expect((await send({ reply_format: { schema: forks(50) } })).status).toBe(422);
    // A pattern with catastrophic backtracking in JavaScript's engine, and a recursion that branches at each level of
    // the answer.
    const child = { properties: { c: { $ref: "#" } } };
    const bombs: [object, string][] = [
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
    for (const [bomb, text] of bombs) {
      provider.script("one", { pieces: [text] });
      await send({ reply_format: { schema: bomb } });
      expect(await readEnd()).toMatchObject({ status: "failed", content: text, error: { code: "invalid_output" } });
    }
    provider.script("one", { text: "Hello." });
    await ben.request("POST", path, { content: "?", reply: true });
    await waitUntil(async () => (await list()).at(-1)?.content === "Hello.");
  });
});
