import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createCatalog } from "../../src/ai/models.ts";
import { PauseSignal } from "../../src/ai/pause-signal.ts";
import { createTimeoutsOf, SILENCE_MS, THINKING_SILENCE_MS } from "../../src/ai/timeouts.ts";
import { loadConfig } from "../../src/config.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collect, createRecorder, createTestChain } from "./collect.ts";

const { can } = createCatalog();
const createOf = (settings: Record<string, unknown>) => createTimeoutsOf(settings, (model) => can(model, "thinking"));

describe("the timeout of a silent model", () => {
  test.each([
    ["openai/gpt-4o", SILENCE_MS],
    ["openai/gpt-4o-mini-2024-07-18", SILENCE_MS],
    ["openai/chatgpt-4o-latest", SILENCE_MS],
    ["openai/gpt-4.1-nano", SILENCE_MS],
    ["openai/gpt-4-turbo", SILENCE_MS],
    ["openai/gpt-3.5-turbo", SILENCE_MS],
    ["openai/gpt-5-chat-latest", SILENCE_MS],
    ["openai/gpt-5.2-chat-latest", SILENCE_MS],
    ["openai/gpt-5.2", THINKING_SILENCE_MS],
    ["openai/gpt-5-mini", THINKING_SILENCE_MS],
    ["openai/o3-mini", THINKING_SILENCE_MS],
    ["openai/unheard-of", THINKING_SILENCE_MS],
    ["anthropic/claude-3-haiku-20240307", SILENCE_MS],
    ["anthropic/claude-3-5-sonnet-latest", SILENCE_MS],
    ["anthropic/claude-3-7-sonnet-latest", THINKING_SILENCE_MS],
    ["anthropic/claude-sonnet-4-5", THINKING_SILENCE_MS],
    ["compatible/deepseek-r1", THINKING_SILENCE_MS],
    ["offline/documents", SILENCE_MS],
  ])("%s, without settings: %i ms", (model, ms) => {
    expect(createOf({})(model)).toEqual({ firstTokenMs: ms, idleMs: ms });
  });

  test("a general setting overrides the model's default, and a provider's setting overrides both", () => {
    const timeoutsOf = createOf({
      AI_FIRST_TOKEN_TIMEOUT_MS: 1_000,
      AI_COMPATIBLE_FIRST_TOKEN_TIMEOUT_MS: 2_000,
      AI_OPENAI_IDLE_TIMEOUT_MS: 3_000,
      AI_MY_SERVER_IDLE_TIMEOUT_MS: 4_000,
    });
    expect(timeoutsOf("compatible/r1")).toEqual({ firstTokenMs: 2_000, idleMs: THINKING_SILENCE_MS });
    expect(timeoutsOf("openai/gpt-4o")).toEqual({ firstTokenMs: 1_000, idleMs: 3_000 });
    expect(timeoutsOf("anthropic/claude-3-haiku")).toEqual({ firstTokenMs: 1_000, idleMs: SILENCE_MS });
    expect(timeoutsOf("my-server/any")).toEqual({ firstTokenMs: 1_000, idleMs: 4_000 });
  });
});

test("the settings are read, within limits", () => {
  const load = (environment: Record<string, string>) => loadConfig(environment, () => "");
  const timeoutsOf = createOf(load({ AI_IDLE_TIMEOUT_MS: "1000", AI_ANTHROPIC_FIRST_TOKEN_TIMEOUT_MS: "600000" }));
  expect(timeoutsOf("anthropic/claude-3-haiku")).toEqual({ firstTokenMs: 600_000, idleMs: 1_000 });
  expect(load({}).AI_ANSWER_TIMEOUT_MS).toBe(1_800_000);
  expect(load({ AI_ANSWER_TIMEOUT_MS: "86400000" }).AI_ANSWER_TIMEOUT_MS).toBe(86_400_000);
  expect(() => load({ AI_ANSWER_TIMEOUT_MS: "86400001" })).toThrow("AI_ANSWER_TIMEOUT_MS");
  expect(() => load({ AI_COMPATIBLE_IDLE_TIMEOUT_MS: "600001" })).toThrow("AI_COMPATIBLE_IDLE_TIMEOUT_MS");
});

describe("the timeout of a whole answer", () => {
  let mockProvider: MockProvider;
  beforeAll(() => {
    mockProvider = startMockProvider();
  });
  afterEach(() => mockProvider.reset());
  afterAll(() => mockProvider.stop());

  const words = Array.from({ length: 400 }, (_, index) => `word${index} `);
  const providers = ["openai", "anthropic", "compatible"];

  test.each(providers)("%s: stops an ongoing answer, keeps the text, and tries no other model", async (provider) => {
    mockProvider.script("model", { pieces: words, pieceDelayMs: 20 });
    const { observe, events } = createRecorder();
    const models = [`${provider}/model`, "compatible/other"];
    const chain = createTestChain(mockProvider, models, { answerTimeoutMs: 250, observe });
    const startedMs = performance.now();
    const { text, end } = await collect(chain);
    expect(performance.now() - startedMs).toBeWithin(245, 1_000);
    expect(end).toMatchObject({ type: "error", code: "provider_timeout", model: models[0], models: [models[0]] });
    expect(text).toStartWith("word0 word1 ");
    expect(end.usage?.output_tokens).toBeGreaterThan(0);
    await Bun.sleep(20);
    expect(mockProvider.requests.map(({ model, aborted }) => [model, aborted])).toEqual([["model", true]]);
    expect(events).toContainEqual(["attempt", models[0], "failed", "provider_timeout"]);
    // The model was active: other attempts may have used most of the time.
    expect(chain.models().map(({ state }) => state)).toEqual(["available", "available"]);
  });

  test.each(providers)("%s: is the only limit of an endless active stream", async (provider) => {
    mockProvider.script("model", { thinking: 1_000, pieceDelayMs: 20 });
    const options = { answerTimeoutMs: 400, firstTokenTimeoutMs: 100, idleTimeoutMs: 100, maxRetries: 0 };
    const startedMs = performance.now();
    const { end } = await collect(createTestChain(mockProvider, [`${provider}/model`], options));
    expect(end).toMatchObject({ type: "error", code: "provider_timeout" });
    expect(performance.now() - startedMs).toBeWithin(395, 1_000);
    expect(mockProvider.requests.length).toBe(1);
  });

  test("includes retries and their pauses", async () => {
    const options = { answerTimeoutMs: 300, maxRetries: 10, backoffBaseMs: 20 };
    const startedMs = performance.now();
    const { end } = await collect(createTestChain(mockProvider, ["openai/rate-limited"], options));
    expect(end).toMatchObject({ type: "error", code: "provider_timeout", model: "openai/rate-limited" });
    expect(performance.now() - startedMs).toBeWithin(295, 900);
    // The provider's Retry-After exceeds the remaining time.
    expect(mockProvider.requests.length).toBe(1);
  });

  test("continues while the reader pauses the answer", async () => {
    const chain = createTestChain(mockProvider, ["openai/stall"], { answerTimeoutMs: 300, idleTimeoutMs: 5_000 });
    const pause = new PauseSignal();
    pause.set(true);
    const startedMs = performance.now();
    const { end } = await collect(chain, { pause });
    expect(end).toMatchObject({ type: "error", code: "provider_timeout" });
    expect(performance.now() - startedMs).toBeWithin(295, 1_000);
  });

  test("a later run of an answer has the remaining time, or calls no model", async () => {
    mockProvider.script("model", { pieces: words, pieceDelayMs: 20 });
    const chain = createTestChain(mockProvider, ["openai/model"], { answerTimeoutMs: 10_000 });
    const startedMs = performance.now();
    const late = await collect(chain, { startedAtMs: startedMs - 9_800 });
    expect(late.end).toMatchObject({ type: "error", code: "provider_timeout" });
    expect(performance.now() - startedMs).toBeWithin(195, 1_000);
    const over = await collect(chain, { startedAtMs: startedMs - 20_000 });
    expect(over.end).toMatchObject({ type: "error", code: "provider_timeout", model: null });
    expect(mockProvider.requests.length).toBe(1);
  });
});

describe("activity", () => {
  /** Sends each piece after a pause of `pauseMs`, as raw bytes of one response. */
  async function ask(
    pieces: string[],
    pauseMs: number,
    limits: { firstTokenTimeoutMs: number; idleTimeoutMs: number },
  ) {
    const server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        async data(socket) {
          for (const piece of pieces) {
            await Bun.sleep(pauseMs);
            socket.write(piece);
          }
          socket.end();
        },
      },
    });
    try {
      const url = `http://127.0.0.1:${server.port}/v1`;
      const mockProvider = { openaiUrl: url, anthropicUrl: url } as MockProvider;
      return await collect(createTestChain(mockProvider, ["compatible/model"], { maxRetries: 0, ...limits }));
    } finally {
      server.stop(true);
    }
  }

  const head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
  const chunk = (delta: object, reason: string | null = null) =>
    `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: reason }] })}\n\n`;
  const closing = [chunk({ content: "Done." }), chunk({}, "stop"), "data: [DONE]\n\n"];

  test.each([
    ["only the head of the response", [head, ": c\n\n"]],
    ["comments", [head, ": ping\n\n", ": ping\n\n", ": ping\n\n"]],
    ["empty lines", [head, "\n", "\n", "\n"]],
    ["empty deltas", [head, chunk({ role: "assistant", content: "" }), chunk({}), chunk({ content: "" })]],
    ["parts of an event", [head, 'data: {"choices"', ':[{"index":0,"delta"', ":{}}]}\n\n"]],
    ["reasoning", [head, chunk({ reasoning_content: "hm" }), chunk({ reasoning: "hm" })]],
    ["interim responses", ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n", head]],
    ["parts of the head", [head.slice(0, 10), head.slice(10, 30), head.slice(30)]],
  ])("%s: slower than the timeout in total, but active", async (_name, pieces) => {
    const { text, end } = await ask([...pieces, ...closing], 120, { firstTokenTimeoutMs: 200, idleTimeoutMs: 200 });
    expect([text, end.type]).toEqual(["Done.", "finish"]);
  });

  test("invalid chunk size, byte by byte: active", async () => {
    const body = closing.join("");
    const chunkedHead = head.replace("connection: close", "transfer-encoding: chunked");
    const size = Buffer.byteLength(body).toString(16).padStart(4, "0");
    const pieces = [chunkedHead, ...size, "\r\n", `${body}\r\n0\r\n\r\n`];
    const { text, end } = await ask(pieces, 120, { firstTokenTimeoutMs: 200, idleTimeoutMs: 200 });
    expect([text, end.type]).toEqual(["Done.", "finish"]);
  });

  test("afterwards, silence counts from the last byte", async () => {
    const startedMs = performance.now();
    const { end } = await ask([head, ": ping\n\n", ...Array(40).fill("")], 100, {
      firstTokenTimeoutMs: 300,
      idleTimeoutMs: 300,
    });
    expect(end).toMatchObject({ type: "error", code: "provider_timeout" });
    expect(performance.now() - startedMs).toBeWithin(490, 1_200);
  });
});
