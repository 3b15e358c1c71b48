import { afterAll, beforeAll, expect, test } from "bun:test";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { DurableEvent } from "../../src/protocol/events.ts";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let provider: MockProvider;
let instances: [TestApp, TestApp];
let anna: Account;
/** A client of the instance that generates the answers. */
let writerRest: RestClient;
/** A client of another instance. */
let readerRest: RestClient;

beforeAll(async () => {
  provider = startMockProvider();
  const database = await createTestDatabase(10);
  const config = {
    COMPATIBLE_BASE_URL: provider.openaiUrl,
    AI_MODELS: "compatible/one,compatible/two",
    AI_MAX_RETRIES: "0",
  };
  instances = [await startApp({ database, config }), await startApp({ database, config })];
  anna = await instances[0].register();
  [writerRest, readerRest] = [createRestClient(instances[0], anna), createRestClient(instances[1], anna)];
});
afterAll(async () => {
  for (const instance of instances) await instance.stop();
  await provider.stop();
  await instances[0].database.end({ timeout: 1 });
});

const PIECES = Array.from({ length: 60 }, (_, n) => `word ${n} with ½ and 🙂, `);
const TEXT = PIECES.join("");

test("readers on another instance receive an answer's stored text while it is in progress, and the full text when it is finished", async () => {
  provider.script("one", { pieces: PIECES, pieceDelayMs: 40 });
  const { id } = await createConversation(instances[0], anna);
  const path = `/conversations/${id}`;
  const { body } = await writerRest.request<SentMessage>("POST", `${path}/messages`, { content: "Talk.", reply: true });
  const answerId = body.reply?.id ?? "";
  const getAnswer = async (rest: RestClient) => (await rest.get<Message>(`${path}/messages/${answerId}`)).body;
  while ((await getAnswer(readerRest)).content.length < 200) await Bun.sleep(20);

  const textReaders: Record<string, () => Promise<string | undefined>> = {
    get: async () => (await getAnswer(readerRest)).content,
    list: async () => (await readerRest.get<{ data: Message[] }>(`${path}/messages`)).body.data.at(-1)?.content,
    events: async () => {
      const { data } = (await readerRest.get<{ data: DurableEvent<"message.created">[] }>(`${path}/events`)).body;
      return data.find((event) => event.data.id === answerId)?.data.content;
    },
    recovery: async () => {
      const socket = await openSocket(instances[1].url, { token: anna.access_token });
      const { events } = await socket.request({ type: "subscribe", conversation_id: id, after_seq: 0 });
      await socket.close();
      return (events as DurableEvent<"message.created">[]).find((event) => event.data.id === answerId)?.data.content;
    },
    feed: async () => {
      const response = await instances[1].fetch(`/api/v1${path}/events?after_seq=0`, {
        token: anna.access_token,
        headers: { accept: "text/event-stream" },
      });
      let text = "";
      const decoder = new TextDecoder();
      for await (const chunk of response.body ?? []) {
        text += decoder.decode(chunk, { stream: true });
        if (text.split("\n\n").length > 2) break;
      }
      const data = /^data: (.*assistant.*)$/m.exec(text)?.[1] ?? "{}";
      return (JSON.parse(data) as DurableEvent<"message.created">).data?.content;
    },
    export: async () => {
      const { answers } = (await readerRest.get<{ answers: Message[] }>("/me/export")).body;
      return answers.find((message) => message.id === answerId)?.content;
    },
  };
  let previousText = "";
  for (const [reader, readText] of Object.entries(textReaders)) {
    const text = (await readText()) ?? "";
    expect({ reader, length: text.length }).toEqual({
      reader,
      length: Math.max(text.length, previousText.length, 200),
    });
    expect({ reader, text: TEXT.startsWith(text) }).toEqual({ reader, text: true });
    previousText = text;
  }
  expect(await getAnswer(readerRest)).toMatchObject({ status: "streaming" });

  while ((await getAnswer(readerRest)).status === "streaming") await Bun.sleep(50);
  expect((await getAnswer(readerRest)).content).toBe(TEXT);
  const remainingPieces = await instances[0].database`select 1 from generation_pieces`;
  expect(remainingPieces).toHaveLength(0);
}, 20_000);

test("an answer cancelled through another instance keeps the text that readers have seen", async () => {
  provider.script("one", { pieces: PIECES, pieceDelayMs: 40 });
  const { id } = await createConversation(instances[0], anna);
  const path = `/conversations/${id}`;
  const { body } = await writerRest.request<SentMessage>("POST", `${path}/messages`, { content: "Talk.", reply: true });
  const answerPath = `${path}/messages/${body.reply?.id}`;
  while ((await readerRest.get<Message>(answerPath)).body.content.length < 100) await Bun.sleep(20);
  const cancelledAnswer = (await readerRest.request<Message>("POST", `${answerPath}/cancel`)).body;
  const finalMessage =
    cancelledAnswer.status === "cancelled" ? cancelledAnswer : (await readerRest.get<Message>(answerPath)).body;
  expect(finalMessage.content.length).toBeGreaterThanOrEqual(100);
  expect(TEXT.startsWith(finalMessage.content)).toBe(true);
});

test("after a failover mid-answer, the new attempt's text replaces the text of the failed attempt", async () => {
  const secondPieces = "A different second answer, long enough to be stored in several pieces. "
    .repeat(3)
    .split(/(?<= )/);
  provider.script("one", { pieces: PIECES, pieceDelayMs: 40, fault: "cut", piecesBeforeFault: 20 });
  provider.script("two", { pieces: secondPieces, pieceDelayMs: 40 });
  const { id } = await createConversation(instances[0], anna);
  const { body } = await writerRest.request<SentMessage>("POST", `/conversations/${id}/messages`, {
    content: "Talk.",
    reply: true,
  });
  const answerPath = `/conversations/${id}/messages/${body.reply?.id}`;
  const seenContents = new Set<string>();
  for (;;) {
    const { status, content } = (await readerRest.get<Message>(answerPath)).body;
    seenContents.add(content);
    if (status !== "streaming") break;
    await Bun.sleep(20);
  }
  const finalText = (await readerRest.get<Message>(answerPath)).body.content;
  expect(finalText.endsWith(secondPieces.at(-1) ?? "")).toBe(true);
  // Whatever readers saw is the beginning of the failed or the final attempt's text.
  for (const text of seenContents) expect(finalText.startsWith(text) || TEXT.startsWith(text)).toBe(true);
  expect(seenContents.size).toBeGreaterThan(3);
});
