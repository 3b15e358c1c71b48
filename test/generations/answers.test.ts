import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: Account;
let ben: Account;
let outsider: Account;
let conversation_id: string;
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
      // Tests of failures use their own models, because failures open a model's circuit breaker.
      AI_MODELS: "openai/one,anthropic/two,compatible/three,openai/down,openai/cut",
      AI_MAX_RETRIES: "0",
      AI_FIRST_TOKEN_TIMEOUT_MS: "2000",
      AI_IDLE_TIMEOUT_MS: "2000",
    },
  });
  [anna, ben, outsider] = await Promise.all([parley.register(), parley.register(), parley.register()]);
});
beforeEach(async () => {
  provider.reset();
  conversation_id = (await createConversation(parley, anna, [ben], { reply_mode: "always" })).id;
  socket = await openSocket(parley.url, { token: anna.access_token });
  await socket.request({ type: "subscribe", conversation_id });
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

let sendCount = 0;
const sendMessage = (content: string, options: object = {}) => {
  sendCount += 1;
  return socket.request({
    type: "message.send",
    conversation_id,
    content,
    client_message_id: `c${sendCount}`,
    ...options,
  });
};
const listMessages = async (): Promise<Message[]> => {
  const response = await parley.fetch(`/api/v1/conversations/${conversation_id}/messages`, {
    token: anna.access_token,
  });
  return ((await response.json()) as { data: Message[] }).data;
};
const isCompleted = (frame: Frame) => frame.type === "message.completed";

/** Assembles an answer's text from frames, and expects each delta to start where the previous one ended. */
function assembleText(frames: Frame[], messageId: string, start = ""): string {
  let text = start;
  for (const frame of frames) {
    if (frame.message_id !== messageId) continue;
    if (frame.type === "message.reset") text = String(frame.text);
    if (frame.type !== "message.delta") continue;
    expect(frame.offset).toBe(text.length);
    text += frame.text;
  }
  return text;
}

describe("answers", () => {
  const providers = ["openai/one", "anthropic/two", "compatible/three"];
  test.each(providers)("from %s are streamed and stored with their usage", async (model) => {
    provider.script(model.split("/")[1] ?? "", { text: "The quick brown fox – 🦊 – jumps.", pieceDelayMs: 10 });
    await sendMessage("Tell me.", { model });
    const completedFrame = await socket.waitFor(isCompleted);
    const id = String(completedFrame.data?.id);
    expect(assembleText(socket.frames, id)).toBe("The quick brown fox – 🦊 – jumps.");
    expect(completedFrame.data).toMatchObject({
      content: "The quick brown fox – 🦊 – jumps.",
      status: "complete",
      finish_reason: "stop",
      model,
      role: "assistant",
      author: null,
      error: null,
    });
    const usage = completedFrame.data?.usage as { input_tokens: number; output_tokens: number };
    expect(usage.input_tokens).toBeGreaterThan(0);
    expect(usage.output_tokens).toBeGreaterThan(0);
    const [question, answer] = await listMessages();
    expect(answer).toEqual(completedFrame.data as never);
    expect(answer?.parent_id).toBe(question?.id ?? "");
    const createdFrames = socket.frames.filter((frame) => frame.type === "message.created");
    expect(createdFrames.map(({ data }) => data?.status)).toEqual(["complete", "streaming"]);
    const seqs = socket.frames.filter(({ seq }) => seq !== undefined).map(({ seq }) => seq);
    expect(seqs).toEqual([2, 3, 4]);
  });

  test("are based on the conversation with only the newest answer to each question", async () => {
    await sendMessage("First?");
    await socket.waitFor(isCompleted);
    const [, firstAnswer] = await listMessages();
    await socket.request({ type: "generation.regenerate", message_id: firstAnswer?.id ?? "" });
    await socket.waitFor((frame) => isCompleted(frame) && frame.data?.id !== firstAnswer?.id);
    await sendMessage("Second?");
    await socket.waitFor((frame) => isCompleted(frame) && socket.list("message.completed").length === 3);
    const request = provider.requests.at(-1)?.body as { input: { role: string; content: unknown }[] };
    expect(request.input.map(({ role }) => role)).toEqual(["user", "assistant", "user"]);
    expect(JSON.stringify(request.input)).toContain("Second?");
    const messages = await listMessages();
    expect(messages.map(({ role }) => role)).toEqual(["user", "assistant", "assistant", "user", "assistant"]);
    expect(messages[2]?.parent_id).toBe(messages[0]?.id ?? "");
  });

  test("fall back to the next model if the first is down", async () => {
    provider.script("down", { fault: "connection_reset" });
    provider.script("one", { text: "I am the second." });
    await sendMessage("Anybody?", { model: "openai/down" });
    const completedFrame = await socket.waitFor(isCompleted);
    expect(completedFrame.data).toMatchObject({ content: "I am the second.", model: "openai/one", status: "complete" });
    expect(await parley.metrics.registry.getSingleMetricAsString("parley_ai_failovers_total")).toContain(
      'from="openai/down",to="openai/one"',
    );
  });

  test("continue with the next model if a model fails mid-answer, and readers see a single text", async () => {
    provider.script("cut", {
      pieces: ["One ", "two ", "three "],
      pieceDelayMs: 30,
      fault: "cut",
      piecesBeforeFault: 2,
    });
    provider.script("one", { text: "and four.", pieceDelayMs: 10 });
    await sendMessage("Count.", { model: "openai/cut" });
    const completedFrame = await socket.waitFor(isCompleted);
    const id = String(completedFrame.data?.id);
    const reset = socket.frames.find((frame) => frame.type === "message.reset");
    expect(reset).toMatchObject({ message_id: id, attempt: 2, text: "One two " });
    expect(assembleText(socket.frames, id)).toBe(String(completedFrame.data?.content));
    expect(completedFrame.data).toMatchObject({
      content: "One two and four.",
      model: "openai/one",
      metadata: { models: ["openai/cut", "openai/one"] },
    });
  });

  test("fail with an error code and keep their partial text if every model fails", async () => {
    const failingApp = await startApp({
      config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/a,compatible/b", AI_MAX_RETRIES: "0" },
    });
    const carl = await failingApp.register();
    provider.script("a", { pieces: ["Only ", "this"], pieceDelayMs: 30, fault: "cut", piecesBeforeFault: 1 });
    provider.script("b", { fault: "status", status: 500 });
    const { id } = await createConversation(failingApp, carl);
    const readerSocket = await openSocket(failingApp.url, { token: carl.access_token });
    await readerSocket.request({ type: "subscribe", conversation_id: id });
    readerSocket.send({
      type: "message.send",
      id: "1",
      conversation_id: id,
      content: "?",
      client_message_id: "1",
      reply: true,
    });
    const completedFrame = await readerSocket.waitFor(isCompleted);
    expect(completedFrame.data).toMatchObject({ content: "Only ", status: "failed", finish_reason: "error" });
    const error = completedFrame.data?.error as { code: string; detail: string };
    expect(error.code).toStartWith("provider_");
    expect(error.detail).not.toContain("internal-detail");
    await failingApp.stop();
  });

  test("stop when cancelled, and keep their partial text", async () => {
    provider.script("one", { pieces: Array.from({ length: 100 }, (_, n) => `${n} `), pieceDelayMs: 20 });
    await sendMessage("Count to a hundred.");
    const delta = await socket.waitFor((frame) => frame.type === "message.delta");
    const ack = await socket.request({ type: "generation.cancel", message_id: delta.message_id as string });
    expect(ack.message).toMatchObject({ status: "cancelled", finish_reason: "cancelled" });
    const completedFrame = await socket.waitFor(isCompleted);
    expect(completedFrame.data?.status).toBe("cancelled");
    expect(assembleText(socket.frames, String(delta.message_id))).toBe(String(completedFrame.data?.content));
    expect(await socket.request({ type: "generation.cancel", message_id: delta.message_id as string })).toMatchObject({
      type: "ack",
      message: { status: "cancelled" },
    });
    await Bun.sleep(50);
    expect(provider.requests.at(-1)?.wasAborted).toBe(true);
  });

  test("continue when the requester disconnects, and readers can join mid-answer", async () => {
    provider.script("one", { pieces: Array.from({ length: 40 }, (_, n) => `word${n} `), pieceDelayMs: 15 });
    await sendMessage("Talk.");
    const delta = await socket.waitFor((frame) => frame.type === "message.delta");
    socket.socket.terminate();
    const id = String(delta.message_id);
    await Bun.sleep(150);
    const freshSocket = await openSocket(parley.url, { token: ben.access_token });
    const ack = await freshSocket.request({ type: "subscribe", conversation_id, after_seq: 0 });
    const createdEvent = (ack.events as Frame[]).find(
      ({ data, type }) => type === "message.created" && data?.id === id,
    );
    expect(createdEvent?.data?.content?.length).toBeGreaterThan(0);
    const resumedSocket = await openSocket(parley.url, { token: ben.access_token });
    await resumedSocket.request({ type: "subscribe", conversation_id, after_seq: ack.last_seq });
    const completedFrame = await freshSocket.waitFor(isCompleted);
    await resumedSocket.waitFor(isCompleted);
    expect(assembleText(freshSocket.frames, id, createdEvent?.data?.content)).toBe(
      String(completedFrame.data?.content),
    );
    expect(resumedSocket.frames.find(({ type }) => type === "message.reset")).toMatchObject({ message_id: id });
    expect(assembleText(resumedSocket.frames, id)).toBe(String(completedFrame.data?.content));
    expect(completedFrame.data).toMatchObject({ status: "complete" });
    await Promise.all([freshSocket.close(), resumedSocket.close()]);
  });

  test("are requested from the provider only once, even if the message is sent several times", async () => {
    provider.script("one", { text: "Once.", firstDelayMs: 100 });
    const frame = { type: "message.send", conversation_id, content: "Again?", client_message_id: "same" };
    await Promise.all([socket.request(frame), socket.request(frame), socket.request(frame)]);
    await socket.waitFor(isCompleted);
    await socket.request(frame);
    expect(provider.listRequests("one")).toHaveLength(1);
    expect(await listMessages()).toHaveLength(2);
  });

  test("can be cancelled only by members, and can be regenerated only after they have finished", async () => {
    provider.script("one", { pieces: Array.from({ length: 50 }, () => "slow "), pieceDelayMs: 20 });
    await sendMessage("Secret?");
    const delta = await socket.waitFor((frame) => frame.type === "message.delta");
    const path = `/api/v1/conversations/${conversation_id}/messages/${delta.message_id}`;
    for (const action of ["cancel", "regenerate"]) {
      expect((await parley.fetch(`${path}/${action}`, { method: "POST", token: outsider.access_token })).status).toBe(
        404,
      );
      expect((await parley.fetch(`${path}/${action}`, { method: "POST" })).status).toBe(401);
    }
    const regenerationResponse = await parley.fetch(`${path}/regenerate`, { method: "POST", token: anna.access_token });
    expect(regenerationResponse.status).toBe(409);
    const cancellationResponse = await parley.fetch(`${path}/cancel`, { method: "POST", token: ben.access_token });
    expect(await cancellationResponse.json()).toMatchObject({ status: "cancelled" });
  });

  test("can't be requested from an unknown model, and the message with the request isn't stored", async () => {
    expect(await sendMessage("x", { model: "openai/unknown" })).toMatchObject({ type: "error", code: "unknown_model" });
    expect(await listMessages()).toEqual([]);
  });

  test("are generated according to reply_mode (never, mention, always) unless the message sets `reply`", async () => {
    const setReplyMode = (reply_mode: string) =>
      parley.fetch(`/api/v1/conversations/${conversation_id}`, {
        method: "PATCH",
        token: anna.access_token,
        json: { reply_mode },
      });
    const sendAndCheckForReply = async (content: string, reply?: boolean) => {
      const sendResponse = await parley.fetch(`/api/v1/conversations/${conversation_id}/messages`, {
        token: anna.access_token,
        json: { content, reply },
      });
      return ((await sendResponse.json()) as { reply: unknown }).reply !== null;
    };
    await setReplyMode("never");
    expect(await sendAndCheckForReply("@ai hello")).toBe(false);
    expect(await sendAndCheckForReply("hello", true)).toBe(true);
    await setReplyMode("mention");
    expect(await sendAndCheckForReply("hello, mail me at ai@ai.example")).toBe(false);
    expect(await sendAndCheckForReply("hello @AI, how are you?")).toBe(true);
    await setReplyMode("always");
    expect(await sendAndCheckForReply("hello")).toBe(true);
    expect(await sendAndCheckForReply("hello", false)).toBe(false);
  });
});

describe("models", () => {
  test("are listed in fallback order", async () => {
    const modelList = (await (await parley.fetch("/api/v1/models", { token: anna.access_token })).json()) as {
      data: { id: string; state: string; is_default: boolean }[];
    };
    expect(modelList.data.map(({ id }) => id)).toEqual([
      "openai/one",
      "anthropic/two",
      "compatible/three",
      "openai/down",
      "openai/cut",
    ]);
    expect(modelList.data[0]).toMatchObject({ provider: "openai", is_default: true });
    expect((await parley.fetch("/api/v1/models")).status).toBe(401);
  });
});
