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
const sendMessage = (user: RestClient, json: object) => user.request<SentMessage>("POST", path, json, createHeaders());
const openAnswerStream = (json: object, streamPath = path) =>
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
    const firstResponse = await sendMessage(anna, { content: "hello" });
    const secondResponse = await sendMessage(anna, { content: "hello" });
    expect(secondResponse.body).toEqual(firstResponse.body);
    expect([firstResponse, secondResponse].map(isReplayed)).toEqual([false, true]);
    expect(await listMessages()).toHaveLength(1);
    expect((await sendMessage(anna, { content: "other" })).status).toBe(422);
    const benResponse = await sendMessage(ben, { content: "hello" });
    expect([benResponse.status, isReplayed(benResponse)]).toEqual([201, false]);
    expect(await listMessages()).toHaveLength(2);
  });

  test("is sent once even if the instance crashed before the response was stored", async () => {
    const firstResponse = await sendMessage(anna, { content: "hello" });
    await simulateCrash();
    const secondResponse = await sendMessage(anna, { content: "hello" });
    expect([secondResponse.status, secondResponse.body.message.id]).toEqual([201, firstResponse.body.message.id]);
    expect(await listMessages()).toHaveLength(1);
    // The stored message is found even after the key has expired.
    await parley.database`update idempotency_keys set created_at = now() - interval '25 h'`;
    expect((await sendMessage(anna, { content: "hello" })).body.message.id).toBe(firstResponse.body.message.id);
    expect((await sendMessage(anna, { content: "next day" })).status).toBe(422);
    await parley.database`update idempotency_keys set created_at = now() - interval '25 h'`;
    expect((await sendMessage(anna, { content: "next day" })).body.message.content).toBe("next day");
  });

  test("keeps its client_message_id", async () => {
    const json = { content: "hello", client_message_id: "mine" };
    expect((await sendMessage(anna, json)).body.message.client_message_id).toBe("mine");
    await simulateCrash();
    expect((await sendMessage(anna, json)).status).toBe(201);
    expect(await listMessages()).toHaveLength(1);
  });
});

describe("a message with a key and a streamed answer", () => {
  const question = { content: "question", reply: true };

  test("joins the answer's stream if it is repeated while the answer is being written", async () => {
    provider.script("good", { pieces: words, pieceDelayMs: 20 });
    const firstStream = await openAnswerStream(question);
    await firstStream.waitFor(({ type }) => type === "message.delta");
    const secondStream = await openAnswerStream(question);
    expect([firstStream.response, secondStream.response].map(isReplayed)).toEqual([false, true]);
    await Promise.all([firstStream.closed, secondStream.closed]);
    const [message, answer] = await listMessages();
    expect(await listMessages()).toHaveLength(2);
    for (const answerStream of [firstStream, secondStream]) {
      const createdData = answerStream.events.slice(0, 2).map(({ frame }) => frame.data);
      expect(createdData).toMatchObject([{ id: message?.id }, { id: answer?.id }]);
      expect(getAnswer(answerStream)).toMatchObject({ id: answer?.id, content: words.join("") });
    }
    expect((await sendMessage(anna, { content: "other" })).status).toBe(422);
  });

  test("returns the stored answer if it is repeated after the answer is finished, with or without a stream", async () => {
    provider.script("good", { pieces: words });
    await (await openAnswerStream(question)).closed;
    const secondStream = await openAnswerStream(question);
    await secondStream.closed;
    expect(isReplayed(secondStream.response)).toBe(true);
    const [message, answer] = await listMessages();
    expect(getAnswer(secondStream)?.content).toBe(words.join(""));
    const responseWithoutStream = await sendMessage(anna, question);
    expect([responseWithoutStream.status, isReplayed(responseWithoutStream)]).toEqual([201, true]);
    expect([responseWithoutStream.body.message.id, responseWithoutStream.body.reply?.id]).toEqual([
      message?.id,
      answer?.id,
    ]);
    expect(await listMessages()).toHaveLength(2);
  });

  test("can be sent first without a stream, and then with one", async () => {
    provider.script("good", { pieces: words, pieceDelayMs: 5 });
    const { body } = await sendMessage(anna, question);
    const secondStream = await openAnswerStream(question);
    await secondStream.closed;
    expect(getAnswer(secondStream)?.id).toBe(body.reply?.id ?? "none");
    expect(await listMessages()).toHaveLength(2);
  });

  test("returns the same error when it is repeated", async () => {
    const invalidQuestion = { ...question, model: "no/model" };
    const sendInvalid = () => openAnswerStream(invalidQuestion).catch((error: Error) => error.message);
    const firstError = await sendInvalid();
    expect(firstError).toContain("unknown_model");
    expect(await sendInvalid()).toBe(firstError);
  });
});

describe("regenerating an answer with a key", () => {
  test("generates one answer, and returns 409 if a streamed request is repeated", async () => {
    provider.script("good", { pieces: words });
    await (await openAnswerStream({ content: "question", reply: true })).closed;
    const [, answer] = await listMessages();
    const regeneratePath = `${path}/${answer?.id}/regenerate`;
    const firstResponse = await anna.request<SentMessage>("POST", regeneratePath, {}, createHeaders());
    expect(firstResponse.status).toBe(201);
    const secondResponse = await anna.request<SentMessage>("POST", regeneratePath, {}, createHeaders());
    expect(secondResponse.body).toEqual(firstResponse.body);
    expect(await listMessages()).toHaveLength(3);

    // An answer in progress would cause a conflict.
    while ((await listMessages()).some(({ status }) => status === "streaming")) await Bun.sleep(10);
    key = createId();
    await (await openAnswerStream({}, regeneratePath)).closed;
    const repeatedResponse = await anna.request<ProblemBody>("POST", regeneratePath, {}, createHeaders());
    expect([repeatedResponse.status, repeatedResponse.body.code]).toEqual([409, "idempotency_answer_not_kept"]);
    expect(await listMessages()).toHaveLength(4);
  });
});

describe("an OpenAI-compatible completion with a key", () => {
  const requestCompletion = (options: object = {}, user = anna) =>
    parley.fetch("/v1/chat/completions", {
      token: user.account.access_token,
      json: { model: "compatible/good", messages: [{ role: "user", content: "Hello" }], ...options },
      headers: createHeaders(),
    });
  type Completion = { id: string; error?: { code: string; type: string } };
  const readCompletion = async (response: Response) => (await response.json()) as Completion;

  test("is generated once, and errors have OpenAI's format", async () => {
    provider.script("good", { pieces: words });
    const [firstResponse, secondResponse] = [await requestCompletion(), await requestCompletion()];
    expect([firstResponse, secondResponse].map(isReplayed)).toEqual([false, true]);
    expect(await readCompletion(secondResponse)).toEqual(await readCompletion(firstResponse));
    expect(provider.listRequests("good")).toHaveLength(1);
    const changedResponse = await requestCompletion({ max_tokens: 5 });
    expect(changedResponse.status).toBe(422);
    expect((await readCompletion(changedResponse)).error).toMatchObject({
      code: "idempotency_key_reused",
      type: "invalid_request_error",
    });
    expect(isReplayed(await requestCompletion({}, ben))).toBe(false);
  });

  test("is generated again if its provider failed", async () => {
    provider.script("good", { fault: "status", status: 500, faultCount: 1 });
    expect((await requestCompletion()).status).toBe(503);
    const secondResponse = await requestCompletion();
    expect([secondResponse.status, isReplayed(secondResponse)]).toEqual([200, false]);
  });

  test("is generated again if it is streamed, because streamed completions ignore the key", async () => {
    provider.script("good", { pieces: words });
    for (const response of [await requestCompletion({ stream: true }), await requestCompletion({ stream: true })]) {
      expect([response.status, isReplayed(response)]).toEqual([200, false]);
      expect(await response.text()).toContain("[DONE]");
    }
  });
});
