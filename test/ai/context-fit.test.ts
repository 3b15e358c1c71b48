import { describe, expect, test } from "bun:test";
import { createChain } from "../../src/ai/chain/chain.ts";
import { fitMessages } from "../../src/ai/fit-messages.ts";
import { createCatalog } from "../../src/ai/models.ts";
import { PauseSignal } from "../../src/ai/pause-signal.ts";
import type { ChatMessage, Provider } from "../../src/ai/provider.ts";
import { createProviderError } from "../../src/ai/provider-error.ts";
import { CACHED_LENGTH_MIN } from "../../src/ai/providers/anthropic/cache.ts";
import { mapToMessagesRequest } from "../../src/ai/providers/anthropic/map-messages.ts";
import { estimateTotalTokens } from "../../src/ai/tokens.ts";
import { silentLog } from "../support/log.ts";

describe("messages for a smaller model", () => {
  const words = "word ".repeat(50);
  const createUserMessage = (content: string): ChatMessage => ({ role: "user", content });
  const createAssistantMessage = (content: string): ChatMessage => ({ role: "assistant", content });
  const allMessages: ChatMessage[] = [
    { role: "system", content: "Prompt" },
    createUserMessage(`1 ${words}`),
    createAssistantMessage(`2 ${words}`),
    createUserMessage(`3 ${words}`),
    createAssistantMessage(`4 ${words}`),
    createUserMessage("5"),
  ];
  const joinFirstLetters = (messages: ChatMessage[]) => messages.map(({ content }) => content.slice(0, 1)).join("");

  test("are unchanged if they fit", () => {
    expect(fitMessages(allMessages, 1_000_000)).toEqual(allMessages);
    expect(fitMessages(allMessages, estimateTotalTokens(allMessages))).toEqual(allMessages);
  });

  test("are dropped oldest first, except for the system prompt and the question", () => {
    expect(joinFirstLetters(fitMessages(allMessages, estimateTotalTokens(allMessages) - 1))).toBe("P345");
    expect(joinFirstLetters(fitMessages(allMessages, 100))).toBe("P5");
    expect(joinFirstLetters(fitMessages(allMessages, 1))).toBe("P5");
  });

  test("include a tool's result only with its call", () => {
    const withTools: ChatMessage[] = [
      createUserMessage(`1 ${words}`),
      { role: "assistant", content: "", toolCalls: [{ id: "c", name: "f", arguments: "{}" }] },
      { role: "tool", content: `r ${words}`, toolCallId: "c" },
      createAssistantMessage("2"),
      createUserMessage("3"),
    ];
    expect(joinFirstLetters(fitMessages(withTools, 60))).toBe("3");
    expect(joinFirstLetters(fitMessages(withTools.slice(0, 3), 1))).toBe("1r");
  });
});

describe("a failover chain", () => {
  const collectRequests = async (request: { shouldFitModelLimits?: boolean; hasFallback?: boolean }) => {
    const receivedRequests: Record<string, { messages: number; outputTokensMax: number | null }> = {};
    const provider: Provider = {
      name: "compatible",
      async stream({ model, messages, outputTokensMax }, push) {
        receivedRequests[model] = { messages: messages.length, outputTokensMax };
        if (model === "large") return { type: "error", error: createProviderError("provider_refused", "no") };
        push({ type: "text", text: "x" });
        return { type: "finish", reason: "stop", usage: null };
      },
    };
    const chain = createChain({
      providers: new Map([["compatible", provider]]),
      models: ["compatible/large", "compatible/small"],
      getTimeouts: () => ({ firstTokenMs: 1_000, idleMs: 1_000 }),
      maxRetries: 0,
      log: silentLog,
      catalog: {
        ...createCatalog(),
        getBudget: (model) =>
          model.endsWith("large")
            ? { inputTokens: 10_000, outputTokensMax: null }
            : { inputTokens: 60, outputTokensMax: 50 },
      },
    });
    const content = "word ".repeat(50);
    const messages: ChatMessage[] = [1, 2, 3].map(() => ({ role: "user", content }));
    await chain.run({ model: null, messages, signal: new AbortController().signal, ...request }, () => {});
    return receivedRequests;
  };

  test("sends each model as many messages as fit its context window", async () => {
    expect(await collectRequests({ shouldFitModelLimits: true })).toEqual({
      large: { messages: 3, outputTokensMax: null },
      small: { messages: 1, outputTokensMax: 50 },
    });
  });

  test("sends every model all messages by default", async () => {
    expect((await collectRequests({})).small).toEqual({ messages: 3, outputTokensMax: null });
  });

  test("offers tools only to models that support them", async () => {
    const offeredToolCounts: Record<string, number> = {};
    const provider: Provider = {
      name: "compatible",
      async stream({ model, options }) {
        offeredToolCounts[model] = options.tools?.length ?? 0;
        return { type: "error", error: createProviderError("provider_refused", "no") };
      },
    };
    const chain = createChain({
      providers: new Map([["compatible", provider]]),
      models: ["compatible/tools", "compatible/no-tools"],
      getTimeouts: () => ({ firstTokenMs: 1_000, idleMs: 1_000 }),
      maxRetries: 0,
      log: silentLog,
      catalog: { ...createCatalog(), hasCapability: (model) => model.endsWith("/tools") },
    });
    const tools = [{ name: "look_up", description: null, parameters: {} }];
    const request = { model: null, messages: [], options: { tools }, signal: new AbortController().signal };
    await chain.run(request, () => {});
    expect(offeredToolCounts).toEqual({ tools: 1, "no-tools": 0 });
  });

  test("doesn't try another model if fallback is off", async () => {
    expect(Object.keys(await collectRequests({ hasFallback: false }))).toEqual(["large"]);
  });
});

describe("Anthropic's prompt cache", () => {
  const mapRequest = (messages: ChatMessage[]) =>
    mapToMessagesRequest(
      {
        model: "claude-x",
        messages,
        partial: null,
        outputTokensMax: null,
        options: {},
        canThink: false,
        signal: new AbortController().signal,
        pause: new PauseSignal(),
      },
      "anthropic",
    );
  const system: ChatMessage = { role: "system", content: "s".repeat(CACHED_LENGTH_MIN) };

  test("is used for the system prompt and the messages before the question", () => {
    const { system: sent, messages } = mapRequest([
      system,
      { role: "user", content: "1" },
      { role: "assistant", content: "2" },
      { role: "user", content: "3" },
    ]);
    const cache_control = { type: "ephemeral" };
    expect(sent).toEqual([{ type: "text", text: system.content, cache_control }] as never);
    expect(messages).toEqual([
      { role: "user", content: "1" },
      { role: "assistant", content: [{ type: "text", text: "2", cache_control }] },
      { role: "user", content: "3" },
    ] as never);
  });

  test("is not used for a short conversation", () => {
    expect(
      JSON.stringify(
        mapRequest([
          { role: "system", content: "short" },
          { role: "user", content: "1" },
        ]),
      ),
    ).not.toContain("cache_control");
    expect(JSON.stringify(mapRequest([{ role: "user", content: "long ".repeat(5_000) }]))).not.toContain(
      "cache_control",
    );
  });
});
