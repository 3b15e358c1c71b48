import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createCatalog } from "../../src/ai/models.ts";
import { PauseSignal } from "../../src/ai/pause-signal.ts";
import { createTimeoutLookup, SILENCE_TIMEOUT_MS, THINKING_TIMEOUT_MS } from "../../src/ai/timeouts.ts";
import { loadConfig } from "../../src/config.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collectRun, createRecordingObserver, createTestChain } from "./collect.ts";

const { hasCapability } = createCatalog();
const createTestTimeoutLookup = (settings: Record<string, unknown>) =>
  createTimeoutLookup(settings, (model) => hasCapability(model, "thinking"));

describe("the timeout while a model sends nothing", () => {
  test.each([
    ["openai/gpt-4o", SILENCE_TIMEOUT_MS],
    ["openai/gpt-4o-mini-2024-07-18", SILENCE_TIMEOUT_MS],
    ["openai/chatgpt-4o-latest", SILENCE_TIMEOUT_MS],
    ["openai/gpt-4.1-nano", SILENCE_TIMEOUT_MS],
    ["openai/gpt-4-turbo", SILENCE_TIMEOUT_MS],
    ["openai/gpt-3.5-turbo", SILENCE_TIMEOUT_MS],
    ["openai/gpt-5-chat-latest", SILENCE_TIMEOUT_MS],
    ["openai/gpt-5.2-chat-latest", SILENCE_TIMEOUT_MS],
    ["openai/gpt-5.2", THINKING_TIMEOUT_MS],
    ["openai/gpt-5-mini", THINKING_TIMEOUT_MS],
    ["openai/o3-mini", THINKING_TIMEOUT_MS],
    ["openai/unknown", THINKING_TIMEOUT_MS],
    ["anthropic/claude-3-haiku-20240307", SILENCE_TIMEOUT_MS],
    ["anthropic/claude-3-5-sonnet-latest", SILENCE_TIMEOUT_MS],
    ["anthropic/claude-3-7-sonnet-latest", THINKING_TIMEOUT_MS],
    ["anthropic/claude-sonnet-4-5", THINKING_TIMEOUT_MS],
    ["compatible/deepseek-r1", THINKING_TIMEOUT_MS],
    ["offline/documents", SILENCE_TIMEOUT_MS],
  ])("for %s is %i ms by default", (model, ms) => {
    expect(createTestTimeoutLookup({})(model)).toEqual({ firstTokenMs: ms, idleMs: ms });
  });

  test("can be set for all models and for a provider", () => {
    const getTimeouts = createTestTimeoutLookup({
      AI_FIRST_TOKEN_TIMEOUT_MS: 1_000,
      AI_COMPATIBLE_FIRST_TOKEN_TIMEOUT_MS: 2_000,
      AI_OPENAI_IDLE_TIMEOUT_MS: 3_000,
      AI_MY_SERVER_IDLE_TIMEOUT_MS: 4_000,
    });
    expect(getTimeouts("compatible/r1")).toEqual({ firstTokenMs: 2_000, idleMs: THINKING_TIMEOUT_MS });
    expect(getTimeouts("openai/gpt-4o")).toEqual({ firstTokenMs: 1_000, idleMs: 3_000 });
    expect(getTimeouts("anthropic/claude-3-haiku")).toEqual({ firstTokenMs: 1_000, idleMs: SILENCE_TIMEOUT_MS });
    expect(getTimeouts("my-server/any")).toEqual({ firstTokenMs: 1_000, idleMs: 4_000 });
  });
});

test("timeout settings out of range are rejected", () => {
  const loadTestConfig = (environment: Record<string, string>) => loadConfig(environment, () => "");
  const getTimeouts = createTestTimeoutLookup(
    loadTestConfig({ AI_IDLE_TIMEOUT_MS: "1000", AI_ANTHROPIC_FIRST_TOKEN_TIMEOUT_MS: "600000" }),
  );
  expect(getTimeouts("anthropic/claude-3-haiku")).toEqual({ firstTokenMs: 600_000, idleMs: 1_000 });
  expect(loadTestConfig({}).AI_ANSWER_TIMEOUT_MS).toBe(1_800_000);
  expect(loadTestConfig({ AI_ANSWER_TIMEOUT_MS: "86400000" }).AI_ANSWER_TIMEOUT_MS).toBe(86_400_000);
  expect(() => loadTestConfig({ AI_ANSWER_TIMEOUT_MS: "86400001" })).toThrow("AI_ANSWER_TIMEOUT_MS");
  expect(() => loadTestConfig({ AI_COMPATIBLE_IDLE_TIMEOUT_MS: "600001" })).toThrow("AI_COMPATIBLE_IDLE_TIMEOUT_MS");
});

describe("the answer timeout", () => {
  let mockProvider: MockProvider;
  beforeAll(() => {
    mockProvider = startMockProvider();
  });
  afterEach(() => mockProvider.reset());
  afterAll(() => mockProvider.stop());

  const words = Array.from({ length: 400 }, (_, index) => `word${index} `);
  const providers = ["openai", "anthropic", "compatible"];

  test.each(providers)("stops an answer from %s, keeps its text, and tries no other model", async (provider) => {
    mockProvider.script("model", { pieces: words, pieceDelayMs: 20 });
    const { observer, events } = createRecordingObserver();
    const models = [`${provider}/model`, "compatible/other"];
    const chain = createTestChain(mockProvider, models, { answerTimeoutMs: 250, observer });
    const startedMs = performance.now();
    const { text, end } = await collectRun(chain);
    expect(performance.now() - startedMs).toBeWithin(245, 1_000);
    expect(end).toMatchObject({ type: "error", code: "provider_timeout", model: models[0], models: [models[0]] });
    expect(text).toStartWith("word0 word1 ");
    expect(end.usage?.output_tokens).toBeGreaterThan(0);
    await Bun.sleep(20);
    expect(mockProvider.requests.map(({ model, wasAborted }) => [model, wasAborted])).toEqual([["model", true]]);
    expect(events).toContainEqual(["attempt", models[0], "failed", "provider_timeout"]);
    // The timeout doesn't count as the model's failure, because other attempts may have used most of the time.
    expect(chain.listModels().map(({ state }) => state)).toEqual(["available", "available"]);
  });

  test.each(providers)("stops an endless active stream from %s", async (provider) => {
    mockProvider.script("model", { thinking: 1_000, pieceDelayMs: 20 });
    const options = { answerTimeoutMs: 400, firstTokenTimeoutMs: 100, idleTimeoutMs: 100, maxRetries: 0 };
    const startedMs = performance.now();
    const { end } = await collectRun(createTestChain(mockProvider, [`${provider}/model`], options));
    expect(end).toMatchObject({ type: "error", code: "provider_timeout" });
    expect(performance.now() - startedMs).toBeWithin(395, 1_000);
    expect(mockProvider.requests.length).toBe(1);
  });

  test("includes retries and their delays", async () => {
    const options = { answerTimeoutMs: 300, maxRetries: 10, backoffBaseMs: 20 };
    const startedMs = performance.now();
    const { end } = await collectRun(createTestChain(mockProvider, ["openai/rate-limited"], options));
    expect(end).toMatchObject({ type: "error", code: "provider_timeout", model: "openai/rate-limited" });
    expect(performance.now() - startedMs).toBeWithin(295, 900);
    // The provider's Retry-After exceeds the remaining time.
    expect(mockProvider.requests.length).toBe(1);
  });

  test("keeps running while the reader pauses the answer", async () => {
    const chain = createTestChain(mockProvider, ["openai/stall"], { answerTimeoutMs: 300, idleTimeoutMs: 5_000 });
    const pause = new PauseSignal();
    pause.set(true);
    const startedMs = performance.now();
    const { end } = await collectRun(chain, { pause });
    expect(end).toMatchObject({ type: "error", code: "provider_timeout" });
    expect(performance.now() - startedMs).toBeWithin(295, 1_000);
  });

  test("includes the time of the answer's earlier runs", async () => {
    mockProvider.script("model", { pieces: words, pieceDelayMs: 20 });
    const chain = createTestChain(mockProvider, ["openai/model"], { answerTimeoutMs: 10_000 });
    const startedMs = performance.now();
    const lateRun = await collectRun(chain, { startedAtMs: startedMs - 9_800 });
    expect(lateRun.end).toMatchObject({ type: "error", code: "provider_timeout" });
    expect(performance.now() - startedMs).toBeWithin(195, 1_000);
    const expiredRun = await collectRun(chain, { startedAtMs: startedMs - 20_000 });
    expect(expiredRun.end).toMatchObject({ type: "error", code: "provider_timeout", model: null });
    expect(mockProvider.requests.length).toBe(1);
  });
});

describe("a timeout", () => {
  /** Runs a model whose server sends the given chunks of a response, `pauseMs` apart. */
  async function runChunks(
    chunks: string[],
    pauseMs: number,
    timeouts: { firstTokenTimeoutMs: number; idleTimeoutMs: number },
  ) {
    const server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        async data(socket) {
          for (const chunk of chunks) {
            await Bun.sleep(pauseMs);
            socket.write(chunk);
          }
          socket.end();
        },
      },
    });
    try {
      const url = `http://127.0.0.1:${server.port}/v1`;
      const mockProvider = { openaiUrl: url, anthropicUrl: url } as MockProvider;
      return await collectRun(createTestChain(mockProvider, ["compatible/model"], { maxRetries: 0, ...timeouts }));
    } finally {
      server.stop(true);
    }
  }

  const responseHead = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
  const formatChunk = (delta: object, reason: string | null = null) =>
    `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: reason }] })}\n\n`;
  const finalChunks = [formatChunk({ content: "Done." }), formatChunk({}, "stop"), "data: [DONE]\n\n"];

  test.each([
    ["only the head of the response", [responseHead, ": c\n\n"]],
    ["comments", [responseHead, ": ping\n\n", ": ping\n\n", ": ping\n\n"]],
    ["empty lines", [responseHead, "\n", "\n", "\n"]],
    [
      "empty deltas",
      [responseHead, formatChunk({ role: "assistant", content: "" }), formatChunk({}), formatChunk({ content: "" })],
    ],
    ["an event in several chunks", [responseHead, 'data: {"choices"', ':[{"index":0,"delta"', ":{}}]}\n\n"]],
    ["reasoning", [responseHead, formatChunk({ reasoning_content: "hm" }), formatChunk({ reasoning: "hm" })]],
    ["interim responses", ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n", responseHead]],
    ["the head in several chunks", [responseHead.slice(0, 10), responseHead.slice(10, 30), responseHead.slice(30)]],
  ])("restarts on any activity (%s)", async (_name, chunks) => {
    const { text, end } = await runChunks([...chunks, ...finalChunks], 120, {
      firstTokenTimeoutMs: 200,
      idleTimeoutMs: 200,
    });
    expect([text, end.type]).toEqual(["Done.", "finish"]);
  });

  test("restarts on any activity (a chunk size, byte by byte)", async () => {
    const body = finalChunks.join("");
    const chunkedHead = responseHead.replace("connection: close", "transfer-encoding: chunked");
    const chunkSize = Buffer.byteLength(body).toString(16).padStart(4, "0");
    const chunks = [chunkedHead, ...chunkSize, "\r\n", `${body}\r\n0\r\n\r\n`];
    const { text, end } = await runChunks(chunks, 120, { firstTokenTimeoutMs: 200, idleTimeoutMs: 200 });
    expect([text, end.type]).toEqual(["Done.", "finish"]);
  });

  test("expires after the activity stops", async () => {
    const startedMs = performance.now();
    const { end } = await runChunks([responseHead, ": ping\n\n", ...Array(40).fill("")], 100, {
      firstTokenTimeoutMs: 300,
      idleTimeoutMs: 300,
    });
    expect(end).toMatchObject({ type: "error", code: "provider_timeout" });
    expect(performance.now() - startedMs).toBeWithin(490, 1_200);
  });
});
