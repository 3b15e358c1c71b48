import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { PROVIDER_INTERNAL_TEXT } from "../support/mock-provider/wire-format.ts";
import { assembleAnswer } from "./assemble-answer.ts";
import { openChat, openSubscribedSocket, waitForAnswer, waitForText } from "./chat.ts";
import { findFreePort } from "./database-server.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const pieces = ["Grüße ", "an ", "alle, ", "世界 ", "und ", "🚀 ", "mehr."];
const expectedText = pieces.join("");
const PIECE_DELAY_MS = 40;
const SLOW_PIECES = 40;

let mockProvider: MockProvider;
let installation: Installation;
let parley: Parley;

beforeAll(async () => {
  mockProvider = startMockProvider();
  installation = await createInstallation({
    env: {
      OPENAI_API_KEY: "openai-key",
      OPENAI_BASE_URL: mockProvider.openaiUrl,
      ANTHROPIC_API_KEY: "anthropic-key",
      ANTHROPIC_BASE_URL: mockProvider.anthropicUrl,
      COMPATIBLE_BASE_URL: mockProvider.openaiUrl,
      AI_MODELS: "openai/gpt-5.2,anthropic/claude-sonnet-4-6,compatible/llama,compatible/slow-one",
    },
  });
  parley = await installation.start();
  for (const model of ["gpt-5.2", "claude-sonnet-4-6", "llama"])
    mockProvider.script(model, { pieces, pieceDelayMs: PIECE_DELAY_MS });
  const slowPieces = Array.from({ length: SLOW_PIECES }, (_, index) => `word${index} `);
  mockProvider.script("slow-one", { pieces: slowPieces, pieceDelayMs: PIECE_DELAY_MS });
});
afterAll(async () => {
  await installation?.remove();
  await mockProvider?.stop();
});

describe("providers", () => {
  test.each([
    ["openai/gpt-5.2", "/v1/responses"],
    ["anthropic/claude-sonnet-4-6", "/v1/messages"],
    ["compatible/llama", "/v1/chat/completions"],
  ])("stream answers, and report their token usage (%s)", async (model, path) => {
    const chat = await openChat(parley);
    const id = await chat.requestAnswer(model, "Say hello to everyone.");
    const { message, deltaCount, attempts, text: receivedText } = await chat.waitForAnswer(id);
    expect(receivedText).toBe(expectedText);
    expect(deltaCount).toBeGreaterThan(1);
    expect(attempts).toEqual([1]);
    expect(message).toMatchObject({
      status: "complete",
      finish_reason: "stop",
      content: expectedText,
      model,
      error: null,
    });
    expect(message.usage?.output_tokens).toBe(pieces.length);
    expect(message.usage?.input_tokens).toBeGreaterThan(0);
    expect(await chat.fetchAnswer(parley, id)).toEqual(message);
    const [request] = mockProvider.listRequests(model.slice(model.indexOf("/") + 1));
    expect(request).toMatchObject({ path });
    expect(JSON.stringify(request?.body)).toContain("Say hello to everyone.");
    await chat.socket.close();
  });

  test("have their answers streamed to the client as server-sent events in the response to a POST", async () => {
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
    const { text: receivedText, deltaCount, finalMessage } = assembleAnswer(frames, completed.data.id);
    expect({ text: receivedText, status: finalMessage?.status, isStreamed: deltaCount > 1 }).toEqual({
      text: expectedText,
      status: "complete",
      isStreamed: true,
    });
    await socket.close();
  });
});

describe("during an answer", () => {
  test("a new subscriber receives the partial text, then the rest", async () => {
    const chat = await openChat(parley);
    const id = await chat.requestAnswer("compatible/slow-one");
    await waitForText(chat.socket, id, 60);
    const lateSockets = await Promise.all(
      [undefined, 0, 1].map((afterSeq) => openSubscribedSocket(parley, chat.account, chat.conversationId, afterSeq)),
    );
    const partialMessage = await chat.fetchAnswer(parley, id);
    expect(partialMessage.status).toBe("streaming");
    expect(partialMessage.content.length).toBeGreaterThanOrEqual(60);
    const fullAnswer = await chat.waitForAnswer(id);
    expect(fullAnswer.message).toMatchObject({ status: "complete", model: "compatible/slow-one" });
    for (const lateSocket of lateSockets) {
      const lateAnswer = await waitForAnswer(lateSocket, id);
      expect(lateAnswer.message).toEqual(fullAnswer.message);
      expect(lateAnswer.deltaCount).toBeLessThan(fullAnswer.deltaCount);
      expect(lateAnswer.deltaCount).toBeGreaterThan(0);
      await lateSocket.close();
    }
    await chat.socket.close();
  });

  test("canceling keeps the partial text, and aborts the provider request", async () => {
    const chat = await openChat(parley);
    const id = await chat.requestAnswer("compatible/slow-one");
    await waitForText(chat.socket, id, 20);
    const ack = await chat.socket.request({ type: "generation.cancel", message_id: id });
    expect(ack).toMatchObject({ type: "ack", message: { id, status: "cancelled" } });
    const { message, text: receivedText } = await chat.waitForAnswer(id);
    expect(message).toMatchObject({
      status: "cancelled",
      finish_reason: "cancelled",
      error: null,
      content: receivedText,
    });
    expect(receivedText).toStartWith("word0 word1 ");
    expect(receivedText.length).toBeLessThan(SLOW_PIECES * 6);
    await Bun.sleep(2 * PIECE_DELAY_MS);
    expect(mockProvider.listRequests("slow-one").at(-1)?.wasAborted).toBe(true);
    expect(await chat.fetchAnswer(parley, id)).toEqual(message);
    await chat.socket.close();
  });

  test("a lost client connection doesn't stop the answer", async () => {
    const chat = await openChat(parley);
    const id = await chat.requestAnswer("compatible/slow-one");
    await waitForText(chat.socket, id, 20);
    chat.socket.socket.terminate();
    await chat.socket.closed;
    const newSocket = await openSubscribedSocket(parley, chat.account, chat.conversationId);
    expect((await waitForAnswer(newSocket, id)).message.status).toBe("complete");
    await newSocket.close();
  });
});

describe("when providers fail", () => {
  const startFailoverParley = async (env: Record<string, string>) => {
    const failoverInstallation = await createInstallation({
      env: { AI_MAX_RETRIES: "1", COMPATIBLE_BASE_URL: mockProvider.openaiUrl, ANTHROPIC_API_KEY: "key", ...env },
    });
    return { failoverInstallation, failoverParley: await failoverInstallation.start() };
  };

  test("the second provider answers if the first one is unreachable", async () => {
    const unreachableUrl = `http://127.0.0.1:${await findFreePort()}/v1`;
    const { failoverInstallation, failoverParley } = await startFailoverParley({
      OPENAI_API_KEY: "key",
      OPENAI_BASE_URL: unreachableUrl,
      ANTHROPIC_BASE_URL: mockProvider.anthropicUrl,
      AI_MODELS: "openai/gpt-5.2,anthropic/claude-sonnet-4-6",
    });
    const chat = await openChat(failoverParley);
    const { message, text: receivedText } = await chat.waitForAnswer(await chat.requestAnswer());
    expect(receivedText).toBe(expectedText);
    expect(message).toMatchObject({ status: "complete", model: "anthropic/claude-sonnet-4-6", error: null });
    await failoverInstallation.remove();
  });

  test("the next model takes over, even mid-answer, and the answer fails if all models fail", async () => {
    const { failoverInstallation, failoverParley } = await startFailoverParley({
      AI_MODELS: "compatible/fails,compatible/cut,compatible/llama",
    });
    const chat = await openChat(failoverParley);
    const { message, resets } = await chat.waitForAnswer(await chat.requestAnswer());
    expect(message).toMatchObject({ status: "complete", model: "compatible/llama" });
    expect(resets).toMatchObject([{ attempt: 2 }]);
    expect(resets[0]?.text).not.toBe("");
    await failoverInstallation.remove();

    const failingSetup = await startFailoverParley({ AI_MODELS: "compatible/fails,compatible/overloaded" });
    const failedChat = await openChat(failingSetup.failoverParley);
    const id = await failedChat.requestAnswer();
    const { message: failedMessage } = await failedChat.waitForAnswer(id, 15_000);
    expect(failedMessage).toMatchObject({ status: "failed", finish_reason: "error", content: "" });
    expect(failedMessage.error?.code).toStartWith("provider_");
    expect(JSON.stringify(failedMessage)).not.toContain(PROVIDER_INTERNAL_TEXT);
    expect(await failedChat.fetchAnswer(failingSetup.failoverParley, id)).toEqual(failedMessage);
    await failingSetup.failoverInstallation.remove();
  });
});
