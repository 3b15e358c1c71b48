import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createCatalog } from "../../src/ai/models.ts";
import { estimateTokens, estimateTotalTokens } from "../../src/ai/tokens.ts";
import { noUsage } from "../../src/ai/usage.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collectRun, createRecordingObserver, createTestChain } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

const messages = [{ role: "user" as const, content: "What is Parley?" }];
const promptTokens = estimateTotalTokens(messages);

describe("an attempt without reported tokens", () => {
  test("is billed for its prompt once a tool call has started", async () => {
    mockProvider.script("cut", { pieces: [], fault: "tool_call_cut", piecesBeforeFault: 0 });
    const { end } = await collectRun(createTestChain(mockProvider, ["openai/cut"], { maxRetries: 0 }));
    expect(end).toMatchObject({ type: "error", model: "openai/cut" });
    expect(end.usage).toEqual({ ...noUsage, input_tokens: promptTokens, estimated: true });
  });

  test("is billed for its reasoning even without an answer", async () => {
    mockProvider.script("thinks", { thinking: 3, pieces: [], fault: "cut", piecesBeforeFault: 0 });
    const { end } = await collectRun(createTestChain(mockProvider, ["compatible/thinks"], { maxRetries: 0 }));
    const tokens = estimateTokens("Thinking. ".repeat(3));
    expect(end.usage).toEqual({
      ...noUsage,
      input_tokens: promptTokens,
      output_tokens: tokens,
      reasoning_tokens: tokens,
      estimated: true,
    });
  });

  test("adds the billed tokens to the metrics of its own model", async () => {
    mockProvider.script("first", { pieces: ["one two "], fault: "cut", piecesBeforeFault: 1 });
    mockProvider.script("second", { text: "three", reportUsage: false });
    const { observer, events } = createRecordingObserver();
    const tokens: Record<string, number> = {};
    const tokenObserver = {
      ...observer,
      onTokens: (model: string, kind: string, count: number) => {
        tokens[`${model} ${kind}`] = count;
      },
    };
    const chain = createTestChain(mockProvider, ["openai/first", "compatible/second"], { observer: tokenObserver });
    const { end } = await collectRun(chain);
    expect(events.some(([name]) => name === "failover")).toBe(true);
    expect(tokens).toEqual({
      "openai/first input": promptTokens,
      "openai/first output": estimateTokens("one two "),
      "compatible/second input": promptTokens + estimateTokens("one two "),
      "compatible/second output": estimateTokens("three"),
    });
    expect(end.usage?.input_tokens).toBe(2 * promptTokens + estimateTokens("one two "));
    expect(end.usage?.output_tokens).toBe(estimateTokens("one two ") + estimateTokens("three"));
  });

  test("isn't billed if the model produced nothing", async () => {
    mockProvider.script("fails", { fault: "status", status: 500 });
    const { end } = await collectRun(createTestChain(mockProvider, ["openai/fails"], { maxRetries: 0 }));
    expect([end.usage, end.costUsd]).toEqual([null, null]);
  });
});

test("OpenAI's newer models charge more for tokens written to their cache than for the rest of the prompt", async () => {
  const usage = {
    input_tokens: 10_000,
    input_tokens_details: { cached_tokens: 6_000, cache_write_tokens: 3_000 },
    output_tokens: 500,
    output_tokens_details: { reasoning_tokens: 400 },
    total_tokens: 10_500,
  };
  const events = [
    { type: "response.output_text.delta", item_id: "msg_1", output_index: 0, content_index: 0, delta: "An answer." },
    { type: "response.completed", response: { id: "resp_1", status: "completed", usage } },
  ];
  mockProvider.script("gpt-5.6-luna", {
    recording: events.map((data) => `data: ${JSON.stringify(data)}\n\n`).join(""),
  });
  const { end } = await collectRun(createTestChain(mockProvider, ["openai/gpt-5.6-luna"]));
  expect(end.usage).toEqual({
    input_tokens: 10_000,
    output_tokens: 500,
    cached_input_tokens: 6_000,
    cache_write_tokens: 3_000,
    reasoning_tokens: 400,
    estimated: false,
  });
  expect(end.costUsd).toBeCloseTo((1_000 * 0.2 + 6_000 * 0.02 + 3_000 * 0.25 + 500 * 1.2) / 1_000_000, 12);
});

describe("the answer length limit", () => {
  const fetchSentLimit = async (model: string, request: Parameters<typeof collectRun>[1]) => {
    await collectRun(createTestChain(mockProvider, [model], { catalog: createCatalog() }), request);
    const body = mockProvider.requests.at(-1)?.body;
    return body?.max_tokens ?? body?.max_output_tokens ?? null;
  };

  test.each([
    ["anthropic/claude-3-haiku-20240307", 4_096],
    ["anthropic/claude-3-5-sonnet-20241022", 8_192],
    ["anthropic/claude-opus-4-6", 16_384],
    ["anthropic/claude-unknown", 16_384],
    ["openai/gpt-4o-2024-05-13", null],
  ])("of %s is %p by default", async (model, tokens) => {
    expect(await fetchSentLimit(model, {})).toBe(tokens);
  });

  test.each([
    ["anthropic/claude-3-haiku-20240307", 4_096],
    ["anthropic/claude-opus-4-1", 32_000],
    ["anthropic/claude-opus-4-6", 50_000],
    ["openai/gpt-4o", 16_384],
    ["openai/gpt-5-chat-latest", 16_384],
    ["compatible/own", 50_000],
  ])("of %s is at most the model's maximum if 50,000 tokens are requested: %p", async (model, tokens) => {
    expect(await fetchSentLimit(model, { outputTokensMax: 50_000 })).toBe(tokens);
  });

  test("is the model's maximum if messages are trimmed to fit the model", async () => {
    expect(await fetchSentLimit("anthropic/claude-haiku-4-5", { shouldFitModelLimits: true })).toBe(64_000);
    expect(
      await fetchSentLimit("anthropic/claude-haiku-4-5", { shouldFitModelLimits: true, outputTokensMax: 1_000 }),
    ).toBe(1_000);
  });
});
