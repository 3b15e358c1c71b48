import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import { createId } from "../../src/lib/id.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream, type TestStream } from "../support/event-stream.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: RestClient;
let ben: RestClient;
let path: string;
let key: string;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/good", AI_MAX_RETRIES: "0" },
  });
  [anna, ben] = (await Promise.all([parley.register(), parley.register()])).map((account) =>
    createRestClient(parley, account),
  ) as [RestClient, RestClient];
});
beforeEach(async () => {
  provider.reset();
  key = createId();
  path = `/conversations/${(await createConversation(parley, anna.account, [ben.account])).id}/messages`;
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const words = Array.from({ length: 30 }, (_, n) => `word${n} `);
const createHeaders = () => ({ "idempotency-key": key });
const send = (user: RestClient, json: object) => user.request<SentMessage>("POST", path, json, createHeaders());
const stream = (json: object, streamPath = path) =>
  openStream(parley, streamPath, { token: anna.account.access_token, json, headers: createHeaders() });
/** Returns the answer in its final state, which is the last event of a stream. */
const getAnswer = ({ events }: TestStream) => events.at(-1)?.frame.data as Partial<Message> | undefined;
const listMessages = async () => (await anna.get<{ data: Message[] }>(path)).body.data;
const isReplayed = ({ headers }: { headers: Headers }) => headers.get("idempotent-replayed") === "true";
/** Simulates a crash after the commit, before the response is stored. */
const simulateCrash = () =>
  parley.database`
    update idempotency_keys set ended_at = null, answer = null, owner = gen_random_uuid(),
      lease_until = now() - interval '1 ms'`;

describe("a message sent with a key", () => {
  test("is sent once, and has the same response when the request is repeated", async () => {
    const first = await send(anna, { content: "hello" });
    const second = await send(anna, { content: "hello" });
    expect(second.body).toEqual(first.body);
    expect([first, second].map(isReplayed)).toEqual([false, true]);
    expect(await listMessages()).toHaveLength(1);
    expect((await send(anna, { content: "other" })).status).toBe(422);
    const benMessage = await send(ben, { content: "hello" });
    expect([benMessage.status, isReplayed(benMessage)]).toEqual([201, false]);
    expect(await listMessages()).toHaveLength(2);
  });

  test("is sent once even if the instance crashed before the response was stored", async () => {
    const first = await send(anna, { content: "hello" });
    await simulateCrash();
    const second = await send(anna, { content: "hello" });
    expect([second.status, second.body.message.id]).toEqual([201, first.body.message.id]);
    expect(await listMessages()).toHaveLength(1);
    // Once the key has expired, the stored message is still found.
    await parley.database`update idempotency_keys set created_at = now() - interval '25 h'`;
    expect((await send(anna, { content: "hello" })).body.message.id).toBe(first.body.message.id);
    expect((await send(anna, { content: "next day" })).status).toBe(422);
    await parley.database`update idempotency_keys set created_at = now() - interval '25 h'`;
    expect((await send(anna, { content: "next day" })).body.message.content).toBe("next day");
  });

  test("keeps its client_message_id", async () => {
    const json = { content: "hello", client_message_id: "mine" };
    expect((await send(anna, json)).body.message.client_message_id).toBe("mine");
    await simulateCrash();
    expect((await send(anna, json)).status).toBe(201);
    expect(await listMessages()).toHaveLength(1);
  });
});

describe("a message sent with a key whose answer is streamed", () => {
  const question = { content: "question", reply: true };

  test("joins the stream if it is repeated while the answer is being written", async () => {
    provider.script("good", { pieces: words, pieceDelayMs: 20 });
    const first = await stream(question);
    await first.waitFor(({ type }) => type === "message.delta");
    const second = await stream(question);
    expect([first.response, second.response].map(isReplayed)).toEqual([false, true]);
    await Promise.all([first.ended, second.ended]);
    const [message, answer] = await listMessages();
    expect(await listMessages()).toHaveLength(2);
    for (const repeated of [first, second]) {
      const created = repeated.events.slice(0, 2).map(({ frame }) => frame.data);
      expect(created).toMatchObject([{ id: message?.id }, { id: answer?.id }]);
      expect(getAnswer(repeated)).toMatchObject({ id: answer?.id, content: words.join("") });
    }
    expect((await send(anna, { content: "other" })).status).toBe(422);
  });

  test("returns the stored answer if it is repeated after the answer is finished, with or without a stream", async () => {
    provider.script("good", { pieces: words });
    await (await stream(question)).ended;
    const second = await stream(question);
    await second.ended;
    expect(isReplayed(second.response)).toBe(true);
    const [message, answer] = await listMessages();
    expect(getAnswer(second)?.content).toBe(words.join(""));
    const withoutStream = await send(anna, question);
    expect([withoutStream.status, isReplayed(withoutStream)]).toEqual([201, true]);
    expect([withoutStream.body.message.id, withoutStream.body.reply?.id]).toEqual([message?.id, answer?.id]);
    expect(await listMessages()).toHaveLength(2);
  });

  test("can be sent first without a stream, then with one", async () => {
    provider.script("good", { pieces: words, pieceDelayMs: 5 });
    const { body } = await send(anna, question);
    const second = await stream(question);
    await second.ended;
    expect(getAnswer(second)?.id).toBe(body.reply?.id ?? "none");
    expect(await listMessages()).toHaveLength(2);
  });

  test("returns the same error when it is repeated", async () => {
    const model = { ...question, model: "no/model" };
    const sendInvalid = () => stream(model).catch((error: Error) => error.message);
    const first = await sendInvalid();
    expect(first).toContain("unknown_model");
    expect(await sendInvalid()).toBe(first);
  });
});

describe("regenerating an answer with a key", () => {
  test("generates one answer, and returns 409 if a streamed request is repeated", async () => {
    provider.script("good", { pieces: words });
    await (await stream({ content: "question", reply: true })).ended;
    const [, answer] = await listMessages();
    const regenerate = `${path}/${answer?.id}/regenerate`;
    const first = await anna.request<SentMessage>("POST", regenerate, {}, createHeaders());
    expect(first.status).toBe(201);
    const second = await anna.request<SentMessage>("POST", regenerate, {}, createHeaders());
    expect(second.body).toEqual(first.body);
    expect(await listMessages()).toHaveLength(3);

    // The test waits because an answer in progress would cause a conflict.
    while ((await listMessages()).some(({ status }) => status === "streaming")) await Bun.sleep(10);
    key = createId();
    await (await stream({}, regenerate)).ended;
    const repeated = await anna.request<ProblemBody>("POST", regenerate, {}, createHeaders());
    expect([repeated.status, repeated.body.code]).toEqual([409, "idempotency_answer_not_kept"]);
    expect(await listMessages()).toHaveLength(4);
  });
});

describe("an OpenAI-compatible completion with a key", () => {
  const complete = (options: object = {}, user = anna) =>
    parley.fetch("/v1/chat/completions", {
      token: user.account.access_token,
      json: { model: "compatible/good", messages: [{ role: "user", content: "Hello" }], ...options },
      headers: createHeaders(),
    });
  type Completion = { id: string; error?: { code: string; type: string } };
  const readCompletion = async (response: Response) => (await response.json()) as Completion;

  test("is generated once, and errors have OpenAI's format", async () => {
    provider.script("good", { pieces: words });
    const [first, second] = [await complete(), await complete()];
    expect([first, second].map(isReplayed)).toEqual([false, true]);
    expect(await readCompletion(second)).toEqual(await readCompletion(first));
    expect(provider.listRequests("good")).toHaveLength(1);
    const changedRequest = await complete({ max_tokens: 5 });
    expect(changedRequest.status).toBe(422);
    expect((await readCompletion(changedRequest)).error).toMatchObject({
      code: "idempotency_key_reused",
      type: "invalid_request_error",
    });
    expect(isReplayed(await complete({}, ben))).toBe(false);
  });

  test("is generated again if its provider failed", async () => {
    provider.script("good", { fault: "status", status: 500, faultCount: 1 });
    expect((await complete()).status).toBe(503);
    const second = await complete();
    expect([second.status, isReplayed(second)]).toEqual([200, false]);
  });

  test("is generated again if it is streamed, because the key is ignored", async () => {
    provider.script("good", { pieces: words });
    for (const response of [await complete({ stream: true }), await complete({ stream: true })]) {
      expect([response.status, isReplayed(response)]).toEqual([200, false]);
      expect(await response.text()).toContain("[DONE]");
    }
  });
});
