import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import { createId } from "../../src/lib/id.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream, type TestStream } from "../support/event-stream.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRest, type Rest } from "../support/rest.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: Rest;
let ben: Rest;
let path: string;
let key: string;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/good", AI_MAX_RETRIES: "0" },
  });
  [anna, ben] = (await Promise.all([parley.register(), parley.register()])).map((account) =>
    createRest(parley, account),
  ) as [Rest, Rest];
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

const pieces = Array.from({ length: 30 }, (_, n) => `word${n} `);
const keyed = () => ({ "idempotency-key": key });
const send = (by: Rest, json: object) => by.request<SentMessage>("POST", path, json, keyed());
const stream = (json: object, at = path) =>
  openStream(parley, at, { token: anna.account.access_token, json, headers: keyed() });
/** The last event of a stream: the answer in its final state. */
const endOf = ({ events }: TestStream) => events.at(-1)?.frame.data as Partial<Message> | undefined;
const history = async () => (await anna.get<{ data: Message[] }>(path)).body.data;
const isReplayed = ({ headers }: { headers: Headers }) => headers.get("idempotent-replayed") === "true";
/** As if the instance had died after the commit, before the response was stored. */
const loseRun = () =>
  parley.database`
    update idempotency_keys set ended_at = null, answer = null, owner = gen_random_uuid(),
      lease_until = now() - interval '1 ms'`;

describe("a message sent with a key", () => {
  test("is sent once, and returns the same response again", async () => {
    const first = await send(anna, { content: "hello" });
    const second = await send(anna, { content: "hello" });
    expect(second.body).toEqual(first.body);
    expect([first, second].map(isReplayed)).toEqual([false, true]);
    expect(await history()).toHaveLength(1);
    expect((await send(anna, { content: "other" })).status).toBe(422);
    const benMessage = await send(ben, { content: "hello" });
    expect([benMessage.status, isReplayed(benMessage)]).toEqual([201, false]);
    expect(await history()).toHaveLength(2);
  });

  test("is the same message even if its instance died before the response was stored", async () => {
    const first = await send(anna, { content: "hello" });
    await loseRun();
    const second = await send(anna, { content: "hello" });
    expect([second.status, second.body.message.id]).toEqual([201, first.body.message.id]);
    expect(await history()).toHaveLength(1);
    // Even when the key has expired, after a day.
    await parley.database`update idempotency_keys set created_at = now() - interval '25 h'`;
    expect((await send(anna, { content: "hello" })).body.message.id).toBe(first.body.message.id);
    expect((await send(anna, { content: "next day" })).status).toBe(422);
    await parley.database`update idempotency_keys set created_at = now() - interval '25 h'`;
    expect((await send(anna, { content: "next day" })).body.message.content).toBe("next day");
  });

  test("keeps its own client_message_id", async () => {
    const json = { content: "hello", client_message_id: "mine" };
    expect((await send(anna, json)).body.message.client_message_id).toBe("mine");
    await loseRun();
    expect((await send(anna, json)).status).toBe(201);
    expect(await history()).toHaveLength(1);
  });
});

describe("a message sent with a key whose answer is streamed", () => {
  const question = { content: "question", reply: true };

  test("joins the stream if it is repeated while the answer is written", async () => {
    provider.script("good", { pieces, pieceDelayMs: 20 });
    const first = await stream(question);
    await first.waitFor(({ type }) => type === "message.delta");
    const second = await stream(question);
    expect([first.response, second.response].map(isReplayed)).toEqual([false, true]);
    await Promise.all([first.ended, second.ended]);
    const [message, answer] = await history();
    expect(await history()).toHaveLength(2);
    for (const one of [first, second]) {
      const created = one.events.slice(0, 2).map(({ frame }) => frame.data);
      expect(created).toMatchObject([{ id: message?.id }, { id: answer?.id }]);
      expect(endOf(one)).toMatchObject({ id: answer?.id, content: pieces.join("") });
    }
    expect((await send(anna, { content: "other" })).status).toBe(422);
  });

  test("returns the stored answer if it is repeated later, also without a stream", async () => {
    provider.script("good", { pieces });
    await (await stream(question)).ended;
    const second = await stream(question);
    await second.ended;
    expect(isReplayed(second.response)).toBe(true);
    const [message, answer] = await history();
    expect(endOf(second)?.content).toBe(pieces.join(""));
    const plain = await send(anna, question);
    expect([plain.status, isReplayed(plain)]).toEqual([201, true]);
    expect([plain.body.message.id, plain.body.reply?.id]).toEqual([message?.id, answer?.id]);
    expect(await history()).toHaveLength(2);
  });

  test("may be sent first without a stream, then with one", async () => {
    provider.script("good", { pieces, pieceDelayMs: 5 });
    const { body } = await send(anna, question);
    const second = await stream(question);
    await second.ended;
    expect(endOf(second)?.id).toBe(body.reply?.id ?? "none");
    expect(await history()).toHaveLength(2);
  });

  test("is refused with the same error again", async () => {
    const model = { ...question, model: "no/model" };
    const refuse = () => stream(model).catch((error: Error) => error.message);
    const first = await refuse();
    expect(first).toContain("unknown_model");
    expect(await refuse()).toBe(first);
  });
});

describe("regenerating an answer with a key", () => {
  test("writes it once; a streamed regeneration can't be repeated", async () => {
    provider.script("good", { pieces });
    await (await stream({ content: "question", reply: true })).ended;
    const [, answer] = await history();
    const regenerate = `${path}/${answer?.id}/regenerate`;
    const first = await anna.request<SentMessage>("POST", regenerate, {}, keyed());
    expect(first.status).toBe(201);
    const second = await anna.request<SentMessage>("POST", regenerate, {}, keyed());
    expect(second.body).toEqual(first.body);
    expect(await history()).toHaveLength(3);

    // Until it has ended, another one is a conflict.
    while ((await history()).some(({ status }) => status === "streaming")) await Bun.sleep(10);
    key = createId();
    await (await stream({}, regenerate)).ended;
    const again = await anna.request<ProblemBody>("POST", regenerate, {}, keyed());
    expect([again.status, again.body.code]).toEqual([409, "idempotency_answer_not_kept"]);
    expect(await history()).toHaveLength(4);
  });
});

describe("a completion of the OpenAI-compatible API with a key", () => {
  const complete = (more: object = {}, by = anna) =>
    parley.fetch("/v1/chat/completions", {
      token: by.account.access_token,
      json: { model: "compatible/good", messages: [{ role: "user", content: "Hello" }], ...more },
      headers: keyed(),
    });
  type Completion = { id: string; error?: { code: string; type: string } };
  const read = async (response: Response) => (await response.json()) as Completion;

  test("is written and charged once; errors have OpenAI's format", async () => {
    provider.script("good", { pieces });
    const [first, second] = [await complete(), await complete()];
    expect([first, second].map(isReplayed)).toEqual([false, true]);
    expect(await read(second)).toEqual(await read(first));
    expect(provider.requestsOf("good")).toHaveLength(1);
    const other = await complete({ max_tokens: 5 });
    expect(other.status).toBe(422);
    expect((await read(other)).error).toMatchObject({ code: "idempotency_key_reused", type: "invalid_request_error" });
    expect(isReplayed(await complete({}, ben))).toBe(false);
  });

  test("is written again if its provider failed", async () => {
    provider.script("good", { fault: "status", status: 500, times: 1 });
    expect((await complete()).status).toBe(503);
    const second = await complete();
    expect([second.status, isReplayed(second)]).toEqual([200, false]);
  });

  test("ignores the key while streaming", async () => {
    provider.script("good", { pieces });
    for (const response of [await complete({ stream: true }), await complete({ stream: true })]) {
      expect([response.status, isReplayed(response)]).toEqual([200, false]);
      expect(await response.text()).toContain("[DONE]");
    }
  });
});
