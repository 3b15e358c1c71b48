import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { estimateTokens, estimateTotalTokens } from "../../src/ai/tokens.ts";
import { noUsage } from "../../src/ai/usage.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { PROVIDER_INTERNAL_TEXT } from "../support/mock-provider/wire-format.ts";
import { collectRun, createTestChain, TEST_KEY } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

const providers = ["openai", "anthropic", "compatible"];
const paths: Record<string, string> = {
  openai: "/v1/responses",
  anthropic: "/v1/messages",
  compatible: "/v1/chat/completions",
};

const conversation = [
  { role: "system" as const, content: "Be brief." },
  { role: "user" as const, content: "Hello" },
  { role: "assistant" as const, content: "Hi." },
  { role: "user" as const, content: "What is Parley?" },
];

describe.each(providers)("%s", (provider) => {
  test("streams an answer with its usage", async () => {
    const chain = createTestChain(mockProvider, [`${provider}/normal`]);
    const { parts, text, end } = await collectRun(chain, { messages: conversation });
    expect(text).toBe("Parley's provider answers in several pieces.");
    expect(parts[0]).toEqual({ type: "start", model: `${provider}/normal`, attempt: 1 });
    expect(parts.filter((part) => part.type === "text").length).toBe(6);
    expect(end).toMatchObject({ type: "finish", model: `${provider}/normal`, reason: "stop", costUsd: null });
    expect(end.models).toEqual([`${provider}/normal`]);
    expect(end.usage).toEqual({ ...noUsage, input_tokens: expect.any(Number), output_tokens: 6, estimated: false });
    expect(end.usage?.input_tokens).toBeGreaterThan(50);
    const [request] = mockProvider.requests;
    expect(request?.path).toBe(paths[provider] ?? "");
    const sentBody = JSON.stringify(request?.body);
    for (const { content } of conversation) expect(sentBody.split(JSON.stringify(content)).length).toBe(2);
    const key = provider === "compatible" ? undefined : `Bearer ${TEST_KEY}`;
    expect(request?.headers.authorization).toBe(key as string);
  });

  test.each([
    ["length", "length"],
    ["content_filter", "content_filter"],
  ] as const)("reports the finish reason %s", async (finishReason, reason) => {
    mockProvider.script("model", { finishReason });
    const { end } = await collectRun(createTestChain(mockProvider, [`${provider}/model`]));
    expect(end).toMatchObject({ type: "finish", reason });
  });

  test("assembles characters that arrive byte by byte", async () => {
    const { text, end } = await collectRun(createTestChain(mockProvider, [`${provider}/split-bytes`]));
    expect(text).toBe("Grüße, 世界 — 👩‍👩‍👧 und 🚀 Ende.");
    expect(end.type).toBe("finish");
  });

  test("reuses the connection for the next request", async () => {
    const chain = createTestChain(mockProvider, [`${provider}/normal`]);
    for (let index = 0; index < 3; index += 1) {
      await collectRun(chain);
      await Bun.sleep(10);
    }
    const ports = mockProvider.requests.map(({ clientPort }) => clientPort);
    expect(ports[0]).toBeGreaterThan(0);
    expect(new Set(ports).size).toBe(1);
  });

  test("doesn't time out while it sends reasoning", async () => {
    mockProvider.script("model", { thinking: 5, pieceDelayMs: 80, pieces: ["Done."] });
    const chain = createTestChain(mockProvider, [`${provider}/model`], { maxRetries: 0 });
    const { text, end } = await collectRun(chain);
    expect([text, end.type]).toEqual(["Done.", "finish"]);
  });

  test("sends the output limit to the provider", async () => {
    await collectRun(createTestChain(mockProvider, [`${provider}/normal`]), { outputTokensMax: 77 });
    expect(JSON.stringify(mockProvider.requests[0]?.body)).toContain(":77");
  });

  test("estimates tokens that aren't reported, and marks them as estimated", async () => {
    mockProvider.script("model", { reportUsage: false });
    const { end } = await collectRun(createTestChain(mockProvider, [`${provider}/model`]));
    const input_tokens = estimateTotalTokens([{ role: "user", content: "What is Parley?" }]);
    const output_tokens = estimateTokens("Parley's provider answers in several pieces.");
    expect(end.usage).toEqual({ ...noUsage, input_tokens, output_tokens, estimated: true });
  });

  test.each([
    ["unauthorized", "provider_unauthorized"],
    ["refused", "provider_refused"],
    ["fails", "provider_unavailable"],
    ["rate-limited-long", "provider_rate_limited"],
    ["error-event", "provider_unavailable"],
  ])("%s: clients see neither the provider's message nor the key", async (model, code) => {
    const { parts, end } = await collectRun(createTestChain(mockProvider, [`${provider}/${model}`]));
    expect(end).toMatchObject({ type: "error", code });
    const visibleOutput = JSON.stringify([parts, end]);
    expect(visibleOutput).not.toContain(PROVIDER_INTERNAL_TEXT);
    expect(visibleOutput).not.toContain(TEST_KEY);
  });

  test("aborting a run also aborts the request to the provider", async () => {
    mockProvider.script("model", { pieceDelayMs: 30, pieces: Array(100).fill("word ") });
    const controller = new AbortController();
    const runPromise = collectRun(createTestChain(mockProvider, [`${provider}/model`]), { signal: controller.signal });
    await Bun.sleep(100);
    const stoppedMs = performance.now();
    controller.abort();
    const { text, end } = await runPromise;
    expect(performance.now() - stoppedMs).toBeLessThan(250);
    expect(end.type).toBe("aborted");
    expect(text).toStartWith("word ");
    expect(end.models).toEqual([`${provider}/model`]);
    expect(end.usage?.output_tokens).toBeGreaterThan(0);
    await Bun.sleep(60);
    expect(mockProvider.requests[0]?.wasAborted).toBe(true);
  });
});

test("every conversation is normalized for the strictest provider", async () => {
  const chain = createTestChain(mockProvider, ["anthropic/normal"]);
  const { end } = await collectRun(chain, {
    messages: [
      { role: "assistant", content: "Welcome." },
      { role: "user", content: "one" },
      { role: "user", content: "two" },
      { role: "system", content: "Late rule." },
      { role: "user", content: "  " },
      { role: "assistant", content: "three" },
    ],
  });
  expect(end.type).toBe("finish");
  expect(mockProvider.requests[0]?.body).toMatchObject({
    system: "Late rule.",
    messages: [
      { role: "user", content: "(The conversation begins.)" },
      { role: "assistant", content: "Welcome." },
      { role: "user", content: "one\n\ntwo" },
      { role: "assistant", content: "three" },
      { role: "user", content: "Please continue." },
    ],
  });
});

test("reasoning summaries are requested unless the model is known not to reason", async () => {
  for (const model of ["gpt-5.2", "gpt-4o", "unknown"])
    await collectRun(createTestChain(mockProvider, [`openai/${model}`]));
  const summary = { summary: "auto" };
  expect(mockProvider.requests.map(({ body }) => body.reasoning)).toEqual([summary, undefined, summary]);
});

test("requests to OpenAI disable storage", async () => {
  await collectRun(createTestChain(mockProvider, ["openai/normal"]));
  expect(mockProvider.requests[0]?.body.store).toBe(false);
});
