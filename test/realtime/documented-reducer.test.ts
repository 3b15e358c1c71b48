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
async function openReader(conversation_id: string, beforeHistory: () => Promise<unknown> = async () => {}) {
  const socket = await openSocket(parley.url, { token: anna.access_token });
  await socket.request({ type: "subscribe", conversation_id });
  await beforeHistory();
  const messages = new Map((await readHistory(conversation_id)).map((message) => [message.id, message]));
  let appliedCount = 0;
  /** Returns the messages as a client would show them. */
  const getShownMessages = () => {
    for (; appliedCount < socket.frames.length; appliedCount += 1)
      applyFrame(messages, socket.frames[appliedCount] as Frame);
    return [...messages.values()].sort((a, b) => a.seq - b.seq);
  };
  return { socket, getShownMessages };
}

const requestAck = async (socket: TestSocket, frame: Record<string, unknown> & { type: string }) => {
  const ack = await socket.request(frame);
  expect(ack).toMatchObject({ type: "ack" });
  return (ack as { message?: Message }).message;
};

test("the documented reducer is short, and produces the stored messages", async () => {
  expect(source.trimEnd().split("\n").length).toBeLessThanOrEqual(10);
  const { id } = await createConversation(parley, anna, [], { reply_mode: "always" });
  const earlyReader = await openReader(id);
  const { socket } = earlyReader;
  const sendMessage = (content: string, model: string) =>
    requestAck(socket, {
      type: "message.send",
      conversation_id: id,
      client_message_id: crypto.randomUUID(),
      content,
      model,
    });
  const countCompleted = () => socket.frames.filter(({ type }) => type === "message.completed").length;
  const waitForCompleted = (count: number) => socket.waitFor(() => countCompleted() >= count, 10_000);

  // A failover in the middle of an answer, then an edit, a regeneration, and a deletion.
  const question = await sendMessage("What do you say?", "compatible/cut");
  await waitForCompleted(1);
  expect(socket.frames.some(({ type }) => type === "message.reset")).toBe(true);
  await requestAck(socket, { type: "message.edit", message_id: question?.id, content: "What do you say, édité?" });
  await requestAck(socket, { type: "generation.regenerate", message_id: question?.id, model: "compatible/next" });
  await waitForCompleted(2);
  const deletedMessage = await sendMessage("Forget this.", "compatible/next");
  await waitForCompleted(3);
  await requestAck(socket, { type: "message.delete", message_id: deletedMessage?.id });

  // Three readers join during an answer, and read the history immediately, a little later, or after the answer ends.
  await sendMessage("Slowly.", "compatible/slow");
  await socket.waitFor(({ type, text }) => type === "message.delta" && String(text).includes("5"));
  const immediateReader = await openReader(id);
  const partial = immediateReader.getShownMessages().at(-1);
  const delayedReader = await openReader(id, () => Bun.sleep(150));
  const lateReader = await openReader(id, async () => {
    await requestAck(socket, { type: "message.edit", message_id: question?.id, content: "Once more." });
    await waitForCompleted(4);
  });
  for (const reader of [immediateReader, delayedReader, lateReader])
    await reader.socket.waitFor(({ type, data }) => type === "message.completed" && data?.id === partial?.id);
  expect(partial?.status).toBe("streaming");

  const storedMessages = await readHistory(id);
  const contentStarts = ["Once more.", "Grüße an 🚀u", "und 🦊 mehr.", "", "und 🦊 mehr.", "Slowly.", "🚀0 🚀1 🚀2 "];
  expect(storedMessages.map(({ content }) => content.slice(0, 12))).toEqual(contentStarts);
  const thought = "🤔 Hm, 🚀.";
  expect(storedMessages.map(({ reasoning }) => reasoning)).toEqual([null, thought, null, null, null, null, thought]);
  for (const reader of [earlyReader, immediateReader, delayedReader, lateReader])
    expect(reader.getShownMessages()).toEqual(storedMessages);
});

test.each([
  ["slow", "9"],
  ["cut", "🚀"],
])("the streamed text of the model %s is complete even without the message.completed frame", async (model, text) => {
  const { id } = await createConversation(parley, anna, [], { reply_mode: "always" });
  const { socket, getShownMessages } = await openReader(id);
  const frame = { conversation_id: id, client_message_id: "c1", content: "Hi", model: `compatible/${model}` };
  await requestAck(socket, { type: "message.send", ...frame });
  await socket.waitFor((frame) => frame.type === "message.delta" && String(frame.text).includes(text));
  const lateReader = await openReader(id);
  await socket.waitFor(({ type }) => type === "message.completed");
  await lateReader.socket.waitFor(({ type }) => type === "message.completed");
  const storedAnswer = (await readHistory(id)).at(-1);
  for (const reader of [{ socket, getShownMessages }, lateReader]) {
    const completedIndex = reader.socket.frames.findIndex(({ type }) => type === "message.completed");
    reader.socket.frames.splice(completedIndex, 1);
    expect(reader.getShownMessages().at(-1)).toMatchObject({
      content: storedAnswer?.content,
      reasoning: "🤔 Hm, 🚀.",
      status: "streaming",
    });
  }
});
