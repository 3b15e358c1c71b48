import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { ANSWER_LENGTH_MAX, TEXT_PART_LENGTH_MAX } from "../../src/ai/attempt/text-cleaner.ts";
import { estimateTokens } from "../../src/ai/tokens.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collectRun, createRecordingObserver, createTestChain } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

const fullAnswer = "Parley's provider answers in several pieces.";
const firstHalf = "Parley's provider answers ";

/** The outcome of each fault, with one retry and a healthy second model. */
const faults = [
  { model: "rate-limited-long", code: "provider_rate_limited", requests: 1, hasText: false },
  { model: "fails", code: "provider_unavailable", requests: 2, hasText: false },
  { model: "overloaded", code: "provider_unavailable", requests: 2, hasText: false },
  { model: "any?fault=status&status=408", code: "provider_unavailable", requests: 2, hasText: false },
  { model: "any?fault=status&status=409", code: "provider_unavailable", requests: 2, hasText: false },
  { model: "unauthorized", code: "provider_unauthorized", requests: 1, hasText: false },
  { model: "refused", code: "provider_refused", requests: 1, hasText: false },
  { model: "connection-reset", code: "provider_unavailable", requests: 2, hasText: false },
  { model: "html", code: "provider_unavailable", requests: 1, hasText: false },
  { model: "not-json?after=0", code: "provider_unavailable", requests: 2, hasText: false },
  { model: "no-headers", code: "provider_timeout", requests: 1, hasText: false },
  { model: "no-first-token", code: "provider_timeout", requests: 1, hasText: false },
  { model: "cut?after=0", code: "provider_unavailable", requests: 2, hasText: false },
  { model: "stall", code: "provider_timeout", requests: 1, hasText: true },
  { model: "cut", code: "provider_unavailable", requests: 1, hasText: true },
  { model: "error-event", code: "provider_unavailable", requests: 1, hasText: true },
  { model: "no-end-marker", code: "provider_unavailable", requests: 1, hasText: true },
  { model: "not-json", code: "provider_unavailable", requests: 1, hasText: true },
];

describe.each(["openai", "anthropic", "compatible"])("%s fails over to another model", (provider) => {
  test.each(faults)("on the fault $model", async ({ model, code, requests, hasText }) => {
    const spareModel = provider === "openai" ? "anthropic/normal" : "openai/normal";
    const failingModel = `${provider}/${model}`;
    const { observer, events } = createRecordingObserver();
    const { text, resets, end } = await collectRun(
      createTestChain(mockProvider, [failingModel, spareModel], { observer }),
    );
    // If a connection is closed without a response, the HTTP client may resend the request.
    if (model !== "connection-reset") expect(mockProvider.listRequests(model).length).toBe(requests);
    expect(mockProvider.listRequests("normal").length).toBe(1);
    expect(end).toMatchObject({
      type: "finish",
      model: spareModel,
      models: hasText ? [failingModel, spareModel] : [spareModel],
    });
    expect(resets).toEqual(hasText ? [{ type: "reset", model: spareModel, attempt: 2, text: firstHalf }] : []);
    // The second model repeats the text, but the reader doesn't see the repetition.
    expect(text).toBe(fullAnswer);
    const failedAttempt = ["attempt", failingModel, "failed", code];
    const attempts = [...Array(requests).fill(failedAttempt), ["attempt", spareModel, "complete", null]];
    expect(events.filter(([name]) => name === "attempt")).toEqual(attempts);
    expect(events.filter(([name]) => name === "failover")).toEqual([["failover", failingModel, spareModel, code]]);
  });
});

test("a refused connection causes a failover", async () => {
  const unusedServer = Bun.serve({ port: 0, fetch: () => new Response() });
  const closedUrl = `http://127.0.0.1:${unusedServer.port}`;
  await unusedServer.stop(true);
  const unreachable: MockProvider = { ...mockProvider, openaiUrl: `${closedUrl}/v1` };
  const { text, end } = await collectRun(createTestChain(unreachable, ["openai/normal", "anthropic/normal"]));
  expect([text, end.type]).toEqual([fullAnswer, "finish"]);
});

test("if every model fails, the run ends with an error and keeps its text", async () => {
  const chain = createTestChain(mockProvider, ["openai/cut", "anthropic/fails"], { maxRetries: 0 });
  const { text, end } = await collectRun(chain);
  expect(text).toBe(firstHalf);
  expect(end).toMatchObject({ type: "error", code: "provider_unavailable", models: ["openai/cut"] });
  expect(end.usage).toMatchObject({ estimated: true, output_tokens: estimateTokens(firstHalf) });
});

describe("a run", () => {
  test("retries a model that returns 500 twice", async () => {
    const chain = createTestChain(mockProvider, ["openai/fails-twice", "anthropic/normal"], { maxRetries: 2 });
    const { end } = await collectRun(chain);
    expect(end).toMatchObject({ type: "finish", model: "openai/fails-twice" });
    expect(mockProvider.listRequests("fails-twice").length).toBe(3);
  });

  test("waits for the time in Retry-After before it retries", async () => {
    const model = "any?fault=status&status=429&retry_after=0.3&times=1";
    const { end } = await collectRun(createTestChain(mockProvider, [`openai/${model}`, "anthropic/normal"]));
    expect(end).toMatchObject({ type: "finish", model: `openai/${model}` });
    const [first, second] = mockProvider.listRequests(model);
    expect((second?.receivedAtMs ?? 0) - (first?.receivedAtMs ?? 0)).toBeGreaterThanOrEqual(300);
  });

  test("can be aborted while it waits for a retry", async () => {
    const model = "any?fault=status&status=429&retry_after=5";
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 50);
    const startedMs = performance.now();
    const { end } = await collectRun(createTestChain(mockProvider, [`openai/${model}`]), { signal: controller.signal });
    expect(end).toEqual({ type: "aborted", model: `openai/${model}`, models: [], usage: null, costUsd: null });
    expect(performance.now() - startedMs).toBeLessThan(500);
    expect(mockProvider.requests.length).toBe(1);
  });

  test("calls no model if it is aborted before it starts", async () => {
    const { parts, end } = await collectRun(createTestChain(mockProvider, ["openai/normal"]), {
      signal: AbortSignal.abort(),
    });
    expect([parts, end]).toEqual([[], { type: "aborted", model: null, models: [], usage: null, costUsd: null }]);
    expect(mockProvider.requests.length).toBe(0);
  });
});

describe.each(["openai", "anthropic", "compatible"])("a response from %s", (provider) => {
  test("is truncated at the length limit and split into parts, even if a single delta contains 5 MB", async () => {
    const { parts, text, end } = await collectRun(
      createTestChain(mockProvider, [`${provider}/big-delta`], { firstTokenTimeoutMs: 5_000 }),
    );
    expect(text.length).toBe(ANSWER_LENGTH_MAX);
    const longest = Math.max(...parts.map((part) => (part.type === "text" ? part.text.length : 0)));
    expect(longest).toBe(TEXT_PART_LENGTH_MAX);
    expect(end).toMatchObject({ type: "finish", reason: "length" });
  });

  test.each(["comment-storm", "endless-line"])("fails at a size limit, long before a timeout (%s)", async (model) => {
    const options = { firstTokenTimeoutMs: 20_000, maxRetries: 0 };
    const startedMs = performance.now();
    const { end } = await collectRun(createTestChain(mockProvider, [`${provider}/${model}`], options));
    expect(end).toMatchObject({ type: "error", code: "provider_unavailable" });
    expect(performance.now() - startedMs).toBeLessThan(5_000);
  });

  test("times out even if it consists of endless comments", async () => {
    const startedMs = performance.now();
    const options = { firstTokenTimeoutMs: 1, maxRetries: 0 };
    const { end } = await collectRun(createTestChain(mockProvider, [`${provider}/comment-storm`], options));
    expect(end).toMatchObject({ type: "error", code: "provider_timeout" });
    expect(performance.now() - startedMs).toBeLessThan(500);
  });
});

test("text that can't be stored is repaired, and surrogate pairs split across deltas are joined", async () => {
  mockProvider.script("model", { pieces: ["a\0b ", "\ud83d", "\ude80 ", "x\udc00y", " end\ud83d"] });
  const { text } = await collectRun(createTestChain(mockProvider, ["compatible/model"]));
  expect(text).toBe("ab 🚀 x\ufffdy end");
});

describe("an answer is complete", () => {
  test("if it has a finish_reason but no [DONE]", async () => {
    mockProvider.script("model", { sendDone: false });
    const { text, end } = await collectRun(createTestChain(mockProvider, ["compatible/model"]));
    expect([text, end.type]).toEqual([fullAnswer, "finish"]);
  });

  test("if it has a finish_reason and the connection stays open", async () => {
    mockProvider.script("model", { sendDone: false, keepConnectionOpen: true });
    const chain = createTestChain(mockProvider, ["compatible/model"], { idleTimeoutMs: 5_000 });
    const { text, end } = await collectRun(chain);
    expect([text, end.type]).toEqual([fullAnswer, "finish"]);
    expect(end.usage?.estimated).toBe(false);
  });

  test("if it has an end marker and the connection stays open", async () => {
    mockProvider.script("model", { keepConnectionOpen: true });
    const startedMs = performance.now();
    const runs = ["openai", "anthropic", "compatible"].map((provider) =>
      collectRun(createTestChain(mockProvider, [`${provider}/model`], { idleTimeoutMs: 5_000 })),
    );
    for (const { end } of await Promise.all(runs)) expect(end.type).toBe("finish");
    expect(performance.now() - startedMs).toBeLessThan(500);
    expect(mockProvider.requests.map(({ wasAborted }) => wasAborted)).toEqual([false, false, false]);
    await Bun.sleep(1_100);
    expect(mockProvider.requests.map(({ wasAborted }) => wasAborted)).toEqual([true, true, true]);
  });
});
