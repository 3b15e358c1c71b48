import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { ANSWER_LENGTH_MAX, TEXT_PART_LENGTH_MAX } from "../../src/ai/attempt/text-cleaner.ts";
import { estimateTokens } from "../../src/ai/tokens.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collect, createRecorder, createTestChain } from "./collect.ts";

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
  { model: "rate-limited-long", code: "provider_rate_limited", requests: 1, shown: false },
  { model: "fails", code: "provider_unavailable", requests: 2, shown: false },
  { model: "overloaded", code: "provider_unavailable", requests: 2, shown: false },
  { model: "any?fault=status&status=408", code: "provider_unavailable", requests: 2, shown: false },
  { model: "any?fault=status&status=409", code: "provider_unavailable", requests: 2, shown: false },
  { model: "unauthorized", code: "provider_unauthorized", requests: 1, shown: false },
  { model: "refused", code: "provider_refused", requests: 1, shown: false },
  { model: "refuse", code: "provider_unavailable", requests: 2, shown: false },
  { model: "html", code: "provider_unavailable", requests: 1, shown: false },
  { model: "not-json?after=0", code: "provider_unavailable", requests: 2, shown: false },
  { model: "no-headers", code: "provider_timeout", requests: 1, shown: false },
  { model: "no-first-token", code: "provider_timeout", requests: 1, shown: false },
  { model: "cut?after=0", code: "provider_unavailable", requests: 2, shown: false },
  { model: "stall", code: "provider_timeout", requests: 1, shown: true },
  { model: "cut", code: "provider_unavailable", requests: 1, shown: true },
  { model: "error-event", code: "provider_unavailable", requests: 1, shown: true },
  { model: "no-end-marker", code: "provider_unavailable", requests: 1, shown: true },
  { model: "not-json", code: "provider_unavailable", requests: 1, shown: true },
];

describe.each(["openai", "anthropic", "compatible"])("%s fails over", (provider) => {
  test.each(faults)("$model", async ({ model, code, requests, shown }) => {
    const second = provider === "openai" ? "anthropic/normal" : "openai/normal";
    const first = `${provider}/${model}`;
    const { observe, events } = createRecorder();
    const { text, resets, end } = await collect(createTestChain(mockProvider, [first, second], { observe }));
    // A connection that closes without a response may have been idle: the HTTP client repeats that itself.
    if (model !== "refuse") expect(mockProvider.requestsOf(model).length).toBe(requests);
    expect(mockProvider.requestsOf("normal").length).toBe(1);
    expect(end).toMatchObject({ type: "finish", model: second, models: shown ? [first, second] : [second] });
    expect(resets).toEqual(shown ? [{ type: "reset", model: second, attempt: 2, text: firstHalf }] : []);
    // The second model starts over; the reader sees no repetition.
    expect(text).toBe(fullAnswer);
    const failed = ["attempt", first, "failed", code];
    const attempts = [...Array(requests).fill(failed), ["attempt", second, "complete", null]];
    expect(events.filter(([name]) => name === "attempt")).toEqual(attempts);
    expect(events.filter(([name]) => name === "failover")).toEqual([["failover", first, second, code]]);
  });
});

test("a refused connection", async () => {
  const unused = Bun.serve({ port: 0, fetch: () => new Response() });
  const closedUrl = `http://127.0.0.1:${unused.port}`;
  await unused.stop(true);
  const gone: MockProvider = { ...mockProvider, openaiUrl: `${closedUrl}/v1` };
  const { text, end } = await collect(createTestChain(gone, ["openai/normal", "anthropic/normal"]));
  expect([text, end.type]).toEqual([fullAnswer, "finish"]);
});

test("if every model fails: one error, and the text so far stays", async () => {
  const chain = createTestChain(mockProvider, ["openai/cut", "anthropic/fails"], { maxRetries: 0 });
  const { text, end } = await collect(chain);
  expect(text).toBe(firstHalf);
  expect(end).toMatchObject({ type: "error", code: "provider_unavailable", models: ["openai/cut"] });
  expect(end.usage).toMatchObject({ estimated: true, output_tokens: estimateTokens(firstHalf) });
});

describe("retries", () => {
  test("after 500 twice, the same model answers", async () => {
    const chain = createTestChain(mockProvider, ["openai/fails-twice", "anthropic/normal"], { maxRetries: 2 });
    const { end } = await collect(chain);
    expect(end).toMatchObject({ type: "finish", model: "openai/fails-twice" });
    expect(mockProvider.requestsOf("fails-twice").length).toBe(3);
  });

  test("Retry-After is respected", async () => {
    const model = "any?fault=status&status=429&retry_after=0.3&times=1";
    const { end } = await collect(createTestChain(mockProvider, [`openai/${model}`, "anthropic/normal"]));
    expect(end).toMatchObject({ type: "finish", model: `openai/${model}` });
    const [first, second] = mockProvider.requestsOf(model);
    expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(300);
  });

  test("stopping ends the pause before a retry", async () => {
    const model = "any?fault=status&status=429&retry_after=5";
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 50);
    const startedMs = performance.now();
    const { end } = await collect(createTestChain(mockProvider, [`openai/${model}`]), { signal: controller.signal });
    expect(end).toEqual({ type: "aborted", model: `openai/${model}`, models: [], usage: null, costUsd: null });
    expect(performance.now() - startedMs).toBeLessThan(500);
    expect(mockProvider.requests.length).toBe(1);
  });

  test("a run stopped before it starts calls no model", async () => {
    const { parts, end } = await collect(createTestChain(mockProvider, ["openai/normal"]), {
      signal: AbortSignal.abort(),
    });
    expect([parts, end]).toEqual([[], { type: "aborted", model: null, models: [], usage: null, costUsd: null }]);
    expect(mockProvider.requests.length).toBe(0);
  });
});

describe.each(["openai", "anthropic", "compatible"])("%s is handled", (provider) => {
  test("5 MB in one delta: the answer ends at its limit, in parts of bounded length", async () => {
    const { parts, text, end } = await collect(
      createTestChain(mockProvider, [`${provider}/big-delta`], { firstTokenTimeoutMs: 5_000 }),
    );
    expect(text.length).toBe(ANSWER_LENGTH_MAX);
    const longest = Math.max(...parts.map((part) => (part.type === "text" ? part.text.length : 0)));
    expect(longest).toBe(TEXT_PART_LENGTH_MAX);
    expect(end).toMatchObject({ type: "finish", reason: "length" });
  });

  test.each(["comment-storm", "endless-line"])("%s: ends at a limit, long before the watchdog", async (model) => {
    const options = { firstTokenTimeoutMs: 20_000, maxRetries: 0 };
    const startedMs = performance.now();
    const { end } = await collect(createTestChain(mockProvider, [`${provider}/${model}`], options));
    expect(end).toMatchObject({ type: "error", code: "provider_unavailable" });
    expect(performance.now() - startedMs).toBeLessThan(5_000);
  });

  test("a comment storm doesn't starve the watchdog", async () => {
    const startedMs = performance.now();
    const options = { firstTokenTimeoutMs: 1, maxRetries: 0 };
    const { end } = await collect(createTestChain(mockProvider, [`${provider}/comment-storm`], options));
    expect(end).toMatchObject({ type: "error", code: "provider_timeout" });
    expect(performance.now() - startedMs).toBeLessThan(500);
  });
});

test("text that can't be stored is repaired: NUL, lone surrogates, a pair split over two deltas", async () => {
  mockProvider.script("model", { pieces: ["a\0b ", "\ud83d", "\ude80 ", "x\udc00y", " end\ud83d"] });
  const { text } = await collect(createTestChain(mockProvider, ["compatible/model"]));
  expect(text).toBe("ab 🚀 x\ufffdy end");
});

describe("a complete answer whose stream doesn't end properly", () => {
  test("a finish_reason without [DONE]", async () => {
    mockProvider.script("model", { done: false });
    const { text, end } = await collect(createTestChain(mockProvider, ["compatible/model"]));
    expect([text, end.type]).toEqual([fullAnswer, "finish"]);
  });

  test("a finish_reason, then a connection that stays open", async () => {
    mockProvider.script("model", { done: false, hold: true });
    const chain = createTestChain(mockProvider, ["compatible/model"], { idleTimeoutMs: 5_000 });
    const { text, end } = await collect(chain);
    expect([text, end.type]).toEqual([fullAnswer, "finish"]);
    expect(end.usage?.estimated).toBe(false);
  });

  test("the end marker, then a connection that stays open", async () => {
    mockProvider.script("model", { hold: true });
    const startedMs = performance.now();
    const answers = ["openai", "anthropic", "compatible"].map((provider) =>
      collect(createTestChain(mockProvider, [`${provider}/model`], { idleTimeoutMs: 5_000 })),
    );
    for (const { end } of await Promise.all(answers)) expect(end.type).toBe("finish");
    expect(performance.now() - startedMs).toBeLessThan(500);
    expect(mockProvider.requests.map(({ aborted }) => aborted)).toEqual([false, false, false]);
    await Bun.sleep(1_100);
    expect(mockProvider.requests.map(({ aborted }) => aborted)).toEqual([true, true, true]);
  });
});
