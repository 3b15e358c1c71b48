import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { Writable } from "node:stream";
import pino from "pino";
import { createCatalog } from "../../src/ai/models.ts";
import { QUOTE_LENGTH_MAX } from "../../src/ai/providers/map-conversation.ts";
import { noUsage } from "../../src/ai/usage.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { FOREIGN_TEXT } from "../support/mock-provider/wire-format.ts";
import { collect, createRecorder, createTestChain, TEST_KEY } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

type Sent = { role: string; content: string }[];

const sentMessages = (model: string): Sent => {
  const body = mockProvider.requestsOf(model).at(-1)?.body;
  return (body?.input ?? body?.messages) as Sent;
};

describe("a failover after text was shown", () => {
  test.each(["openai", "anthropic", "compatible"])(
    "%s continues from a user message that quotes the text",
    async (provider) => {
      mockProvider.script("first", { pieces: ["The capital ", "of France", "never sent"], fault: "cut", after: 2 });
      mockProvider.script("second", { pieces: [" is", " Paris."] });
      const chain = createTestChain(mockProvider, ["compatible/first", `${provider}/second`]);
      const { text, parts, end } = await collect(chain);
      expect(text).toBe("The capital of France is Paris.");
      expect(parts.map((part) => part.type)).toEqual(["start", "text", "text", "reset", "text", "text"]);
      expect(end.models).toEqual(["compatible/first", `${provider}/second`]);
      const messages = sentMessages("second");
      expect(messages.map(({ role }) => role)).toEqual(["user"]);
      expect(messages[0]?.content).toStartWith("What is Parley?\n\n");
      expect(messages[0]?.content).toContain("<partial_answer>\nThe capital of France\n</partial_answer>");
    },
  );

  test("both models are charged", async () => {
    mockProvider.script("first", { text: "one two three four", fault: "cut", after: 2 });
    mockProvider.script("second", { text: " five six" });
    const catalog = createCatalog({ prices: "anthropic/first=1/100000,openai/second=0/100000" });
    const { observe, events } = createRecorder();
    const { end } = await collect(
      createTestChain(mockProvider, ["anthropic/first", "openai/second"], { catalog, observe }),
    );
    const anthropicInput = JSON.stringify(mockProvider.requestsOf("first")[0]?.body.messages).length;
    const openaiInput = JSON.stringify(mockProvider.requestsOf("second")[0]?.body).length;
    // The first broke off after "one two " (8 characters, 2 tokens by estimate); the second reported 3 pieces.
    expect(end.usage).toEqual({
      ...noUsage,
      input_tokens: anthropicInput + openaiInput,
      output_tokens: 5,
      estimated: true,
    });
    expect(end.costUsd).toBeCloseTo(0.5 + anthropicInput / 1_000_000, 9);
    expect(events.filter(([name]) => name === "tokens").length).toBe(4);
  });

  test("the cost is null if one model has no known price", async () => {
    const catalog = createCatalog({ prices: "openai/normal=1/1" });
    const { end } = await collect(createTestChain(mockProvider, ["anthropic/cut", "openai/normal"], { catalog }));
    expect(end.type).toBe("finish");
    expect(end.costUsd).toBeNull();
  });

  test("a single model continues its own answer", async () => {
    mockProvider.script("only", { text: "one two ", fault: "stall", after: 2 }, { text: "three four" });
    const { text, resets, end } = await collect(createTestChain(mockProvider, ["openai/only"]));
    expect(text).toBe("one two three four");
    expect(resets).toEqual([{ type: "reset", model: "openai/only", attempt: 2, text: "one two " }]);
    expect(end).toMatchObject({ type: "finish", models: ["openai/only"] });
  });

  test("every reset increases the attempt; a model that adds no text causes none", async () => {
    mockProvider.script("a", { pieces: ["alpha "], fault: "cut", after: 1 });
    mockProvider.script("b", { pieces: ["beta "], fault: "error_event", after: 1 });
    mockProvider.script("c", { fault: "status", status: 400 });
    mockProvider.script("d", { pieces: ["delta"] });
    const models = ["openai/a", "anthropic/b", "openai/c", "compatible/d"];
    const { text, resets, end } = await collect(createTestChain(mockProvider, models));
    expect(text).toBe("alpha beta delta");
    expect(resets.map(({ attempt, text: kept }) => [attempt, kept])).toEqual([
      [2, "alpha "],
      [3, "alpha beta "],
    ]);
    expect(end.models).toEqual(["openai/a", "anthropic/b", "compatible/d"]);
  });

  test("never continues after a tool call started: the step starts over", async () => {
    const chain = createTestChain(mockProvider, ["openai/tool-call-cut", "anthropic/normal"]);
    const { text, resets, end } = await collect(chain);
    expect(text).toBe("Parley's provider answers in several pieces.");
    expect(resets).toEqual([{ type: "reset", model: "anthropic/normal", attempt: 2, text: "" }]);
    expect(end).toMatchObject({ type: "finish", model: "anthropic/normal", toolCalls: [] });
    expect(sentMessages("normal")).toEqual([{ role: "user", content: "What is Parley?" }]);
  });

  test("fails if no other model is left after a tool call started", async () => {
    const { text, end } = await collect(createTestChain(mockProvider, ["openai/tool-call-cut"], { maxRetries: 0 }));
    expect(text).toBe("Parley's provider answers ");
    expect(end).toMatchObject({ type: "error", code: "provider_unavailable" });
  });

  test("but a tool call before any text may be repeated", async () => {
    const chain = createTestChain(mockProvider, ["compatible/tool-call-cut?after=0", "anthropic/normal"]);
    expect((await collect(chain)).end).toMatchObject({ type: "finish", model: "anthropic/normal" });
  });

  test("a long text is quoted from its end", async () => {
    mockProvider.script("first", { pieces: ["x".repeat(QUOTE_LENGTH_MAX), "The end"], fault: "cut", after: 2 });
    await collect(createTestChain(mockProvider, ["openai/first", "anthropic/second"]));
    const content = sentMessages("second")[0]?.content ?? "";
    expect(content).toContain("xThe end\n</partial_answer>");
    expect(content.length).toBeLessThan(QUOTE_LENGTH_MAX + 2_000);
  });

  test("the offline model adds its own paragraph", async () => {
    const { text, end } = await collect(createTestChain(mockProvider, ["openai/cut", "offline/documents"]));
    expect(text).toStartWith("Parley's provider answers \n\nI am offline: none of the configured AI models");
    expect(end).toMatchObject({ type: "finish", model: "offline/documents" });
  });
});

describe("a run that continues a stored text", () => {
  test("starts with a reset to that text", async () => {
    mockProvider.script("model", { text: "four five" });
    const chain = createTestChain(mockProvider, ["anthropic/model"]);
    const { parts, text } = await collect(chain, { resume: { text: "one two three ", attempt: 4 } });
    expect(parts[0]).toEqual({ type: "reset", model: "anthropic/model", attempt: 5, text: "one two three " });
    expect(text).toBe("one two three four five");
    expect(sentMessages("model")[0]?.content).toContain("one two three");
  });

  test("starts over if nothing was stored", async () => {
    const chain = createTestChain(mockProvider, ["anthropic/normal"]);
    const { parts, text } = await collect(chain, { resume: { text: "", attempt: 1 } });
    expect(parts[0]).toEqual({ type: "reset", model: "anthropic/normal", attempt: 2, text: "" });
    expect(text).toBe("Parley's provider answers in several pieces.");
    expect(sentMessages("normal")).toEqual([{ role: "user", content: "What is Parley?" }]);
  });
});

describe("the requested model", () => {
  test("is tried first, then the others in order", async () => {
    const chain = createTestChain(mockProvider, ["openai/refused", "anthropic/normal", "compatible/fails"], {
      maxRetries: 0,
    });
    const { end } = await collect(chain, { model: "compatible/fails" });
    expect(end).toMatchObject({ type: "finish", model: "anthropic/normal" });
    expect(mockProvider.requests.map(({ model }) => model)).toEqual(["fails", "refused", "normal"]);
  });

  test("falls back to the default if it is no longer configured", async () => {
    const chain = createTestChain(mockProvider, ["openai/normal"]);
    expect((await collect(chain, { model: "openai/gone" })).end).toMatchObject({ model: "openai/normal" });
    expect([chain.has("openai/gone"), chain.has("openai/normal"), chain.defaultModel]).toEqual([
      false,
      true,
      "openai/normal",
    ]);
  });
});

test("the log shows briefly why a model failed, without the key", async () => {
  let written = "";
  const sink = new Writable({
    write(chunk, _encoding, done) {
      written += chunk;
      done();
    },
  });
  mockProvider.script("model", { fault: "status", status: 401 });
  await collect(createTestChain(mockProvider, ["openai/model", "anthropic/html"], { log: pino({}, sink) }));
  expect(written).toContain(FOREIGN_TEXT);
  expect(written).toContain("HTTP 401");
  expect(written).toContain("instead of an event stream");
  expect(written).not.toContain(TEST_KEY);
});

test("100 concurrent answers", async () => {
  const chain = createTestChain(mockProvider, ["openai/any?pieces=20&delay_ms=2", "anthropic/normal"], {
    firstTokenTimeoutMs: 5_000,
    idleTimeoutMs: 5_000,
  });
  const answers = await Promise.all(Array.from({ length: 100 }, () => collect(chain)));
  const expected = Array.from({ length: 20 }, (_, index) => `word${index} `).join("");
  expect(answers.filter(({ text, end }) => text === expected && end.type === "finish").length).toBe(100);
});
