import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";

type Message = {
  id: string;
  seq: number;
  content: string;
  reasoning: string | null;
  status: string;
  parent_id: string | null;
};
type ApplyFrame = (messages: Map<string, Message>, frame: Frame) => void;

const guide = readFileSync(join(import.meta.dir, "../../docs/realtime.md"), "utf8");
const source = /^```js\n(function applyFrame\(.*?)^```$/ms.exec(guide)?.[1] ?? "";
const applyFrame = new Function(`${source}; return applyFrame;`)() as ApplyFrame;

let provider: MockProvider;
let parley: TestApp;
let anna: Account;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "compatible/cut,compatible/next,compatible/slow",
      AI_MAX_RETRIES: "0",
    },
  });
  anna = await parley.register();
  const thinking = ["🤔 Hm, ", "🚀."];
  provider.script("cut", {
    thinking,
    pieces: ["Grüße ", "an 🚀", " alle "],
    pieceDelayMs: 30,
    fault: "cut",
    piecesBeforeFault: 2,
  });
  provider.script("next", { pieces: ["und ", "🦊 mehr."], pieceDelayMs: 30 });
  provider.script("slow", { thinking, pieces: Array.from({ length: 40 }, (_, n) => `🚀${n} `), pieceDelayMs: 20 });
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const readHistory = async (conversationId: string): Promise<Message[]> => {
  const path = `/api/v1/conversations/${conversationId}/messages`;
  const response = await parley.fetch(path, { token: anna.access_token });
  return ((await response.json()) as { data: Message[] }).data;
};

/** Subscribes, reads the history, and applies the frames, in the order that the guide describes. */
async function open(conversation_id: string, beforeHistory: () => Promise<unknown> = async () => {}) {
  const socket = await openSocket(parley.url, { token: anna.access_token });
  await socket.request({ type: "subscribe", conversation_id });
  await beforeHistory();
  const messages = new Map((await readHistory(conversation_id)).map((message) => [message.id, message]));
  let applied = 0;
  /** Returns the messages as a client would show them. */
  const show = () => {
    for (; applied < socket.frames.length; applied += 1) applyFrame(messages, socket.frames[applied] as Frame);
    return [...messages.values()].sort((a, b) => a.seq - b.seq);
  };
  return { socket, show };
}

const request = async (socket: TestSocket, frame: Record<string, unknown> & { type: string }) => {
  const ack = await socket.request(frame);
  expect(ack).toMatchObject({ type: "ack" });
  return (ack as { message?: Message }).message;
};

test("the documented reducer is short, and produces the stored messages", async () => {
  expect(source.trimEnd().split("\n").length).toBeLessThanOrEqual(10);
  const { id } = await createConversation(parley, anna, [], { reply_mode: "always" });
  const early = await open(id);
  const { socket } = early;
  const send = (content: string, model: string) =>
    request(socket, {
      type: "message.send",
      conversation_id: id,
      client_message_id: crypto.randomUUID(),
      content,
      model,
    });
  const countCompleted = () => socket.frames.filter(({ type }) => type === "message.completed").length;
  const waitForCompleted = (count: number) => socket.waitFor(() => countCompleted() >= count, 10_000);

  // A failover in the middle of a text, then an edit, a regeneration, and a deletion.
  const question = await send("What do you say?", "compatible/cut");
  await waitForCompleted(1);
  expect(socket.frames.some(({ type }) => type === "message.reset")).toBe(true);
  await request(socket, { type: "message.edit", message_id: question?.id, content: "What do you say, édité?" });
  await request(socket, { type: "generation.regenerate", message_id: question?.id, model: "compatible/next" });
  await waitForCompleted(2);
  const extra = await send("Forget this.", "compatible/next");
  await waitForCompleted(3);
  await request(socket, { type: "message.delete", message_id: extra?.id });

  // Three readers join during an answer, and read the history immediately, a little later, or after the answer's end.
  await send("Slowly.", "compatible/slow");
  await socket.waitFor(({ type, text }) => type === "message.delta" && String(text).includes("5"));
  const immediate = await open(id);
  const partial = immediate.show().at(-1);
  const delayed = await open(id, () => Bun.sleep(150));
  const afterEnd = await open(id, async () => {
    await request(socket, { type: "message.edit", message_id: question?.id, content: "Once more." });
    await waitForCompleted(4);
  });
  for (const reader of [immediate, delayed, afterEnd])
    await reader.socket.waitFor(({ type, data }) => type === "message.completed" && data?.id === partial?.id);
  expect(partial?.status).toBe("streaming");

  const stored = await readHistory(id);
  const starts = ["Once more.", "Grüße an 🚀u", "und 🦊 mehr.", "", "und 🦊 mehr.", "Slowly.", "🚀0 🚀1 🚀2 "];
  expect(stored.map(({ content }) => content.slice(0, 12))).toEqual(starts);
  const thought = "🤔 Hm, 🚀.";
  expect(stored.map(({ reasoning }) => reasoning)).toEqual([null, thought, null, null, null, null, thought]);
  for (const reader of [early, immediate, delayed, afterEnd]) expect(reader.show()).toEqual(stored);
});

test.each([
  ["slow", "9"],
  ["cut", "🚀"],
])("the text of the model %s is complete even without its last frame", async (model, text) => {
  const { id } = await createConversation(parley, anna, [], { reply_mode: "always" });
  const { socket, show } = await open(id);
  const frame = { conversation_id: id, client_message_id: "c1", content: "Hi", model: `compatible/${model}` };
  await request(socket, { type: "message.send", ...frame });
  await socket.waitFor((frame) => frame.type === "message.delta" && String(frame.text).includes(text));
  const late = await open(id);
  await socket.waitFor(({ type }) => type === "message.completed");
  await late.socket.waitFor(({ type }) => type === "message.completed");
  const stored = (await readHistory(id)).at(-1);
  for (const reader of [{ socket, show }, late]) {
    const end = reader.socket.frames.findIndex(({ type }) => type === "message.completed");
    reader.socket.frames.splice(end, 1);
    expect(reader.show().at(-1)).toMatchObject({
      content: stored?.content,
      reasoning: "🤔 Hm, 🚀.",
      status: "streaming",
    });
  }
});
