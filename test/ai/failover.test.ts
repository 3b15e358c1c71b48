import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { Writable } from "node:stream";
import pino from "pino";
import { createCatalog } from "../../src/ai/models.ts";
import { QUOTE_LENGTH_MAX } from "../../src/ai/providers/map-conversation.ts";
import { noUsage } from "../../src/ai/usage.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { PROVIDER_INTERNAL_TEXT } from "../support/mock-provider/wire-format.ts";
import { collectRun, createRecordingObserver, createTestChain, TEST_KEY } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

type SentMessages = { role: string; content: string }[];

const findSentMessages = (model: string): SentMessages => {
  const body = mockProvider.listRequests(model).at(-1)?.body;
  return (body?.input ?? body?.messages) as SentMessages;
};

describe("a failover after some text", () => {
  test.each(["openai", "anthropic", "compatible"])("sends %s a user message that quotes the text", async (provider) => {
    mockProvider.script("first", {
      pieces: ["The capital ", "of France", "never sent"],
      fault: "cut",
      piecesBeforeFault: 2,
    });
    mockProvider.script("second", { pieces: [" is", " Paris."] });
    const chain = createTestChain(mockProvider, ["compatible/first", `${provider}/second`]);
    const { text, parts, end } = await collectRun(chain);
    expect(text).toBe("The capital of France is Paris.");
    expect(parts.map((part) => part.type)).toEqual(["start", "text", "text", "reset", "text", "text"]);
    expect(end.models).toEqual(["compatible/first", `${provider}/second`]);
    const messages = findSentMessages("second");
    expect(messages.map(({ role }) => role)).toEqual(["user"]);
    expect(messages[0]?.content).toStartWith("What is Parley?\n\n");
    expect(messages[0]?.content).toContain("<partial_answer>\nThe capital of France\n</partial_answer>");
  });

  test("adds up the usage of both models", async () => {
    mockProvider.script("first", { text: "one two three four", fault: "cut", piecesBeforeFault: 2 });
    mockProvider.script("second", { text: " five six" });
    const catalog = createCatalog({ prices: "anthropic/first=1/100000,openai/second=0/100000" });
    const { observer, events } = createRecordingObserver();
    const { end } = await collectRun(
      createTestChain(mockProvider, ["anthropic/first", "openai/second"], { catalog, observer }),
    );
    const anthropicInput = JSON.stringify(mockProvider.listRequests("first")[0]?.body.messages).length;
    const openaiInput = JSON.stringify(mockProvider.listRequests("second")[0]?.body).length;
    // The first model sent "one two ", estimated at 2 tokens. The second reported 3 tokens.
    expect(end.usage).toEqual({
      ...noUsage,
      input_tokens: anthropicInput + openaiInput,
      output_tokens: 5,
      estimated: true,
    });
    expect(end.costUsd).toBeCloseTo(0.5 + anthropicInput / 1_000_000, 9);
    expect(events.filter(([name]) => name === "tokens").length).toBe(4);
  });

  test("has no known cost if the price of one model is unknown", async () => {
    const catalog = createCatalog({ prices: "openai/normal=1/1" });
    const { end } = await collectRun(createTestChain(mockProvider, ["anthropic/cut", "openai/normal"], { catalog }));
    expect(end.type).toBe("finish");
    expect(end.costUsd).toBeNull();
  });

  test("makes a model continue its own answer if there is no other model", async () => {
    mockProvider.script("only", { text: "one two ", fault: "stall", piecesBeforeFault: 2 }, { text: "three four" });
    const { text, resets, end } = await collectRun(createTestChain(mockProvider, ["openai/only"]));
    expect(text).toBe("one two three four");
    expect(resets).toEqual([{ type: "reset", model: "openai/only", attempt: 2, text: "one two " }]);
    expect(end).toMatchObject({ type: "finish", models: ["openai/only"] });
  });

  test("resets the text with a higher attempt number for every model that adds to it", async () => {
    mockProvider.script("a", { pieces: ["alpha "], fault: "cut", piecesBeforeFault: 1 });
    mockProvider.script("b", { pieces: ["beta "], fault: "error_event", piecesBeforeFault: 1 });
    mockProvider.script("c", { fault: "status", status: 400 });
    mockProvider.script("d", { pieces: ["delta"] });
    const models = ["openai/a", "anthropic/b", "openai/c", "compatible/d"];
    const { text, resets, end } = await collectRun(createTestChain(mockProvider, models));
    expect(text).toBe("alpha beta delta");
    expect(resets.map(({ attempt, text: resetText }) => [attempt, resetText])).toEqual([
      [2, "alpha "],
      [3, "alpha beta "],
    ]);
    expect(end.models).toEqual(["openai/a", "anthropic/b", "compatible/d"]);
  });

  test("starts the step over if a tool call had started", async () => {
    const chain = createTestChain(mockProvider, ["openai/tool-call-cut", "anthropic/normal"]);
    const { text, resets, end } = await collectRun(chain);
    expect(text).toBe("Parley's provider answers in several pieces.");
    expect(resets).toEqual([{ type: "reset", model: "anthropic/normal", attempt: 2, text: "" }]);
    expect(end).toMatchObject({ type: "finish", model: "anthropic/normal", toolCalls: [] });
    expect(findSentMessages("normal")).toEqual([{ role: "user", content: "What is Parley?" }]);
  });

  test("fails if a tool call had started and no other model is left", async () => {
    const { text, end } = await collectRun(createTestChain(mockProvider, ["openai/tool-call-cut"], { maxRetries: 0 }));
    expect(text).toBe("Parley's provider answers ");
    expect(end).toMatchObject({ type: "error", code: "provider_unavailable" });
  });

  test("starts the step over if a tool call had started before any text", async () => {
    const chain = createTestChain(mockProvider, ["compatible/tool-call-cut?after=0", "anthropic/normal"]);
    expect((await collectRun(chain)).end).toMatchObject({ type: "finish", model: "anthropic/normal" });
  });

  test("quotes only the end of long text", async () => {
    mockProvider.script("first", {
      pieces: ["x".repeat(QUOTE_LENGTH_MAX), "The end"],
      fault: "cut",
      piecesBeforeFault: 2,
    });
    await collectRun(createTestChain(mockProvider, ["openai/first", "anthropic/second"]));
    const content = findSentMessages("second")[0]?.content ?? "";
    expect(content).toContain("xThe end\n</partial_answer>");
    expect(content.length).toBeLessThan(QUOTE_LENGTH_MAX + 2_000);
  });

  test("adds a separate paragraph if the next model is the offline model", async () => {
    const { text, end } = await collectRun(createTestChain(mockProvider, ["openai/cut", "offline/documents"]));
    expect(text).toStartWith("Parley's provider answers \n\nI am offline: none of the configured AI models");
    expect(end).toMatchObject({ type: "finish", model: "offline/documents" });
  });
});

describe("a run that continues stored text", () => {
  test("starts with a reset to that text", async () => {
    mockProvider.script("model", { text: "four five" });
    const chain = createTestChain(mockProvider, ["anthropic/model"]);
    const { parts, text } = await collectRun(chain, { resume: { text: "one two three ", attempt: 4 } });
    expect(parts[0]).toEqual({ type: "reset", model: "anthropic/model", attempt: 5, text: "one two three " });
    expect(text).toBe("one two three four five");
    expect(findSentMessages("model")[0]?.content).toContain("one two three");
  });

  test("starts over if no text was stored", async () => {
    const chain = createTestChain(mockProvider, ["anthropic/normal"]);
    const { parts, text } = await collectRun(chain, { resume: { text: "", attempt: 1 } });
    expect(parts[0]).toEqual({ type: "reset", model: "anthropic/normal", attempt: 2, text: "" });
    expect(text).toBe("Parley's provider answers in several pieces.");
    expect(findSentMessages("normal")).toEqual([{ role: "user", content: "What is Parley?" }]);
  });
});

describe("the requested model", () => {
  test("is tried first, then the others in order", async () => {
    const chain = createTestChain(mockProvider, ["openai/refused", "anthropic/normal", "compatible/fails"], {
      maxRetries: 0,
    });
    const { end } = await collectRun(chain, { model: "compatible/fails" });
    expect(end).toMatchObject({ type: "finish", model: "anthropic/normal" });
    expect(mockProvider.requests.map(({ model }) => model)).toEqual(["fails", "refused", "normal"]);
  });

  test("falls back to the default if it isn't configured", async () => {
    const chain = createTestChain(mockProvider, ["openai/normal"]);
    expect((await collectRun(chain, { model: "openai/removed" })).end).toMatchObject({ model: "openai/normal" });
    expect([chain.has("openai/removed"), chain.has("openai/normal"), chain.defaultModel]).toEqual([
      false,
      true,
      "openai/normal",
    ]);
  });
});

test("the log states briefly why a model failed, without the API key", async () => {
  let output = "";
  const sink = new Writable({
    write(chunk, _encoding, done) {
      output += chunk;
      done();
    },
  });
  mockProvider.script("model", { fault: "status", status: 401 });
  await collectRun(createTestChain(mockProvider, ["openai/model", "anthropic/html"], { log: pino({}, sink) }));
  expect(output).toContain(PROVIDER_INTERNAL_TEXT);
  expect(output).toContain("HTTP 401");
  expect(output).toContain("instead of an event stream");
  expect(output).not.toContain(TEST_KEY);
});

test("100 answers can be streamed concurrently", async () => {
  const chain = createTestChain(mockProvider, ["openai/any?pieces=20&delay_ms=2", "anthropic/normal"], {
    firstTokenTimeoutMs: 5_000,
    idleTimeoutMs: 5_000,
  });
  const runs = await Promise.all(Array.from({ length: 100 }, () => collectRun(chain)));
  const expected = Array.from({ length: 20 }, (_, index) => `word${index} `).join("");
  expect(runs.filter(({ text, end }) => text === expected && end.type === "finish").length).toBe(100);
});
