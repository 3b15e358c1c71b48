import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { FOREIGN_TEXT } from "../support/mock-provider/wire-format.ts";
import { openChat, openSubscribed, readToEnd, waitForText } from "./chat.ts";
import { findFreePort } from "./database-server.ts";
import { readAnswer } from "./reader.ts";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const pieces = ["Grüße ", "an ", "alle, ", "世界 ", "und ", "🚀 ", "mehr."];
const text = pieces.join("");
const PIECE_DELAY_MS = 40;
const SLOW_PIECES = 40;

let mockProvider: MockProvider;
let site: Site;
let parley: Parley;

beforeAll(async () => {
  mockProvider = startMockProvider();
  site = await createSite({
    env: {
      OPENAI_API_KEY: "key-of-openai",
      OPENAI_BASE_URL: mockProvider.openaiUrl,
      ANTHROPIC_API_KEY: "key-of-anthropic",
      ANTHROPIC_BASE_URL: mockProvider.anthropicUrl,
      COMPATIBLE_BASE_URL: mockProvider.openaiUrl,
      AI_MODELS: "openai/gpt-5.2,anthropic/claude-sonnet-4-6,compatible/llama,compatible/slow-one",
    },
  });
  parley = await site.start();
  for (const model of ["gpt-5.2", "claude-sonnet-4-6", "llama"])
    mockProvider.script(model, { pieces, pieceDelayMs: PIECE_DELAY_MS });
  const slow = Array.from({ length: SLOW_PIECES }, (_, index) => `word${index} `);
  mockProvider.script("slow-one", { pieces: slow, pieceDelayMs: PIECE_DELAY_MS });
});
afterAll(async () => {
  await site?.remove();
  await mockProvider?.stop();
});

describe("each provider's wire format", () => {
  test.each([
    ["openai/gpt-5.2", "/v1/responses"],
    ["anthropic/claude-sonnet-4-6", "/v1/messages"],
    ["compatible/llama", "/v1/chat/completions"],
  ])("%s is streamed, and its tokens are recorded", async (model, path) => {
    const chat = await openChat(parley);
    const id = await chat.ask(model, "Say hello to everyone.");
    const { message, deltas, attempts, text: read } = await chat.readToEnd(id);
    expect(read).toBe(text);
    expect(deltas).toBeGreaterThan(1);
    expect(attempts).toEqual([1]);
    expect(message).toMatchObject({ status: "complete", finish_reason: "stop", content: text, model, error: null });
    expect(message.usage?.output_tokens).toBe(pieces.length);
    expect(message.usage?.input_tokens).toBeGreaterThan(0);
    expect(await chat.get(parley, id)).toEqual(message);
    const [request] = mockProvider.requestsOf(model.slice(model.indexOf("/") + 1));
    expect(request).toMatchObject({ path });
    expect(JSON.stringify(request?.body)).toContain("Say hello to everyone.");
    await chat.socket.close();
  });

  test("the POST also streams the answer over SSE", async () => {
    const { account, conversationId, socket } = await openChat(parley);
    const response = await parley.fetch(`/api/v1/conversations/${conversationId}/messages`, {
      token: account.access_token,
      headers: { accept: "text/event-stream" },
      json: { content: "Hello", reply: true, model: "compatible/llama" },
    });
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const frames = (await response.text())
      .split("\n\n")
      .flatMap((event) => (/^data: (.*)$/m.exec(event)?.[1] ?? "").split("\n").filter((line) => line !== ""))
      .map((data) => JSON.parse(data));
    const completed = frames.find(({ type }) => type === "message.completed");
    const { text: read, deltas, final } = readAnswer(frames, completed.data.id);
    expect({ read, status: final?.status, streamed: deltas > 1 }).toEqual({
      read: text,
      status: "complete",
      streamed: true,
    });
    await socket.close();
  });
});

describe("during an answer", () => {
  test("a new subscriber gets the text so far, then the rest, whichever way it subscribes", async () => {
    const chat = await openChat(parley);
    const id = await chat.ask("compatible/slow-one");
    await waitForText(chat.socket, id, 60);
    const readers = await Promise.all(
      [undefined, 0, 1].map((afterSeq) => openSubscribed(parley, chat.account, chat.conversationId, afterSeq)),
    );
    const stored = await chat.get(parley, id);
    expect(stored.status).toBe("streaming");
    expect(stored.content.length).toBeGreaterThanOrEqual(60);
    const whole = await chat.readToEnd(id);
    expect(whole.message).toMatchObject({ status: "complete", model: "compatible/slow-one" });
    for (const reader of readers) {
      const part = await readToEnd(reader, id);
      expect(part.message).toEqual(whole.message);
      expect(part.deltas).toBeLessThan(whole.deltas);
      expect(part.deltas).toBeGreaterThan(0);
      await reader.close();
    }
    await chat.socket.close();
  });

  test("stop keeps the text so far, and aborts the provider request", async () => {
    const chat = await openChat(parley);
    const id = await chat.ask("compatible/slow-one");
    await waitForText(chat.socket, id, 20);
    const ack = await chat.socket.request({ type: "generation.cancel", message_id: id });
    expect(ack).toMatchObject({ type: "ack", message: { id, status: "cancelled" } });
    const { message, text: read } = await chat.readToEnd(id);
    expect(message).toMatchObject({ status: "cancelled", finish_reason: "cancelled", error: null, content: read });
    expect(read).toStartWith("word0 word1 ");
    expect(read.length).toBeLessThan(SLOW_PIECES * 6);
    await Bun.sleep(2 * PIECE_DELAY_MS);
    expect(mockProvider.requestsOf("slow-one").at(-1)?.aborted).toBe(true);
    expect(await chat.get(parley, id)).toEqual(message);
    await chat.socket.close();
  });

  test("a lost connection doesn't stop the answer", async () => {
    const chat = await openChat(parley);
    const id = await chat.ask("compatible/slow-one");
    await waitForText(chat.socket, id, 20);
    chat.socket.socket.terminate();
    await chat.socket.closed;
    const reader = await openSubscribed(parley, chat.account, chat.conversationId);
    expect((await readToEnd(reader, id)).message.status).toBe("complete");
    await reader.close();
  });
});

describe("when providers fail", () => {
  const startWith = async (env: Record<string, string>) => {
    const other = await createSite({
      env: { AI_MAX_RETRIES: "1", COMPATIBLE_BASE_URL: mockProvider.openaiUrl, ANTHROPIC_API_KEY: "key", ...env },
    });
    return { other, failing: await other.start() };
  };

  test("falls back to the second provider if the first refuses connections", async () => {
    const nowhere = `http://127.0.0.1:${await findFreePort()}/v1`;
    const { other, failing } = await startWith({
      OPENAI_API_KEY: "key",
      OPENAI_BASE_URL: nowhere,
      ANTHROPIC_BASE_URL: mockProvider.anthropicUrl,
      AI_MODELS: "openai/gpt-5.2,anthropic/claude-sonnet-4-6",
    });
    const chat = await openChat(failing);
    const { message, text: read } = await chat.readToEnd(await chat.ask());
    expect(read).toBe(text);
    expect(message).toMatchObject({ status: "complete", model: "anthropic/claude-sonnet-4-6", error: null });
    await other.remove();
  });

  test("falls back after status 500, continues a broken-off answer, and reports the failure if all providers are down", async () => {
    const { other, failing } = await startWith({ AI_MODELS: "compatible/fails,compatible/cut,compatible/llama" });
    const chat = await openChat(failing);
    const { message, resets } = await chat.readToEnd(await chat.ask());
    expect(message).toMatchObject({ status: "complete", model: "compatible/llama" });
    expect(resets).toMatchObject([{ attempt: 2 }]);
    expect(resets[0]?.text).not.toBe("");
    await other.remove();

    const down = await startWith({ AI_MODELS: "compatible/fails,compatible/overloaded" });
    const failingChat = await openChat(down.failing);
    const id = await failingChat.ask();
    const { message: failed } = await failingChat.readToEnd(id, 15_000);
    expect(failed).toMatchObject({ status: "failed", finish_reason: "error", content: "" });
    expect(failed.error?.code).toStartWith("provider_");
    expect(JSON.stringify(failed)).not.toContain(FOREIGN_TEXT);
    expect(await failingChat.get(down.failing, id)).toEqual(failed);
    await down.other.remove();
  });
});
