import { afterAll, beforeAll, expect, test } from "bun:test";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { DurableEvent } from "../../src/protocol/events.ts";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let provider: MockProvider;
let instances: [TestApp, TestApp];
let anna: Account;
/** On the writing instance, and on another one. */
let here: Rest;
let there: Rest;

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
  [here, there] = [createRest(instances[0], anna), createRest(instances[1], anna)];
});
afterAll(async () => {
  for (const instance of instances) await instance.stop();
  await provider.stop();
  await instances[0].database.end({ timeout: 1 });
});

const PIECES = Array.from({ length: 60 }, (_, n) => `word ${n} with ½ and 🙂, `);
const TEXT = PIECES.join("");

test("every reader on another instance gets the stored text of an answer in progress, and the whole text at its end", async () => {
  provider.script("one", { pieces: PIECES, pieceDelayMs: 40 });
  const { id } = await createConversation(instances[0], anna);
  const path = `/conversations/${id}`;
  const { body } = await here.request<SentMessage>("POST", `${path}/messages`, { content: "Talk.", reply: true });
  const answerId = body.reply?.id ?? "";
  const get = async (rest: Rest) => (await rest.get<Message>(`${path}/messages/${answerId}`)).body;
  while ((await get(there)).content.length < 200) await Bun.sleep(20);

  const readers: Record<string, () => Promise<string | undefined>> = {
    get: async () => (await get(there)).content,
    list: async () => (await there.get<{ data: Message[] }>(`${path}/messages`)).body.data.at(-1)?.content,
    events: async () => {
      const { data } = (await there.get<{ data: DurableEvent<"message.created">[] }>(`${path}/events`)).body;
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
      const { answers } = (await there.get<{ answers: Message[] }>("/me/export")).body;
      return answers.find((message) => message.id === answerId)?.content;
    },
  };
  let last = "";
  for (const [reader, read] of Object.entries(readers)) {
    const text = (await read()) ?? "";
    expect({ reader, length: text.length }).toEqual({ reader, length: Math.max(text.length, last.length, 200) });
    expect({ reader, text: TEXT.startsWith(text) }).toEqual({ reader, text: true });
    last = text;
  }
  expect(await get(there)).toMatchObject({ status: "streaming" });

  while ((await get(there)).status === "streaming") await Bun.sleep(50);
  expect((await get(there)).content).toBe(TEXT);
  const left = await instances[0].database`select 1 from generation_pieces`;
  expect(left).toHaveLength(0);
}, 20_000);

test("an answer stopped by another instance keeps all text that was shown", async () => {
  provider.script("one", { pieces: PIECES, pieceDelayMs: 40 });
  const { id } = await createConversation(instances[0], anna);
  const path = `/conversations/${id}`;
  const { body } = await here.request<SentMessage>("POST", `${path}/messages`, { content: "Talk.", reply: true });
  const answer = `${path}/messages/${body.reply?.id}`;
  while ((await there.get<Message>(answer)).body.content.length < 100) await Bun.sleep(20);
  const stopped = (await there.request<Message>("POST", `${answer}/cancel`)).body;
  const shown = stopped.status === "cancelled" ? stopped : (await there.get<Message>(answer)).body;
  expect(shown.content.length).toBeGreaterThanOrEqual(100);
  expect(TEXT.startsWith(shown.content)).toBe(true);
});

test("a failover mid-answer stores only the new attempt's text", async () => {
  const second = "Something else altogether, and for long enough to be stored in between. ".repeat(3).split(/(?<= )/);
  provider.script("one", { pieces: PIECES, pieceDelayMs: 40, fault: "cut", after: 20 });
  provider.script("two", { pieces: second, pieceDelayMs: 40 });
  const { id } = await createConversation(instances[0], anna);
  const { body } = await here.request<SentMessage>("POST", `/conversations/${id}/messages`, {
    content: "Talk.",
    reply: true,
  });
  const answer = `/conversations/${id}/messages/${body.reply?.id}`;
  const seen = new Set<string>();
  for (;;) {
    const { status, content } = (await there.get<Message>(answer)).body;
    seen.add(content);
    if (status !== "streaming") break;
    await Bun.sleep(20);
  }
  const final = (await there.get<Message>(answer)).body.content;
  expect(final.endsWith(second.at(-1) ?? "")).toBe(true);
  // Every stored state is a prefix of one attempt or the other.
  for (const text of seen) expect(final.startsWith(text) || TEXT.startsWith(text)).toBe(true);
  expect(seen.size).toBeGreaterThan(3);
});
