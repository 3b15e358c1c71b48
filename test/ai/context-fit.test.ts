import { describe, expect, test } from "bun:test";
import { CACHED_LENGTH_MIN } from "../../src/ai/anthropic-cache.ts";
import { createChain } from "../../src/ai/chain.ts";
import { findCheapestModel } from "../../src/ai/cheapest-model.ts";
import { countMessages, fitMessages } from "../../src/ai/fit-messages.ts";
import { mapToMessagesRequest } from "../../src/ai/map-anthropic.ts";
import { createBudgetOf, INPUT_TOKENS_DEFAULT, INPUT_TOKENS_UNKNOWN } from "../../src/ai/model-budget.ts";
import type { ChatMessage, Provider } from "../../src/ai/provider.ts";
import { createProviderError } from "../../src/ai/provider-error.ts";
import { estimateTokens } from "../../src/ai/tokens.ts";
import { defaultPrices } from "../../src/lib/prices.ts";
import { silentLog } from "../support/log.ts";

describe("tokens", () => {
  // Counted with OpenAI's o200k_base.
  const counted: [string, number][] = [
    [
      "The quick brown fox jumps over the lazy dog. I think that we should meet tomorrow, because the weather will be better than it was today.",
      29,
    ],
    [
      "Der schnelle braune Fuchs springt über den faulen Hund. Die Datenbankverbindung wurde unerwartet geschlossen, weshalb die Nachrichtenübertragung fehlgeschlagen ist. Bitte versuchen Sie es später noch einmal. ",
      44,
    ],
    ["Быстрая коричневая лиса перепрыгивает через ленивую собаку, а база данных хранит все сообщения.", 28],
    ["快速的棕色狐狸跳过了懒狗。数据库连接意外关闭,因此消息传输失败。请稍后再试。", 31],
    ["빠른 갈색 여우가 게으른 개를 뛰어넘습니다. 데이터베이스 연결이 닫혔습니다.", 28],
    ["สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ", 28],
    ["🚀🎉😀👍🏽👩‍👩‍👧", 16],
  ];
  test.each(counted)("of %j are estimated within a quarter", (text, tokens) => {
    expect(estimateTokens(text) / tokens).toBeGreaterThan(0.8);
    expect(estimateTokens(text) / tokens).toBeLessThan(1.25);
  });

  test("of nothing are none, and no text takes long", () => {
    expect(estimateTokens("")).toBe(0);
    for (const unit of ["a", "世", " ", "\n", "-", "🚀", "a1"]) {
      const text = unit.repeat(200_000);
      const startedAtMs = performance.now();
      expect(estimateTokens(text)).toBeLessThanOrEqual(text.length);
      expect(performance.now() - startedAtMs).toBeLessThan(250);
    }
  });
});

describe("budgets of models", () => {
  test("keep the answer's share free, cap what is shown, and know what to do with an unknown model", () => {
    const budgetOf = createBudgetOf();
    expect(budgetOf("openai/gpt-5.2")).toEqual({ inputTokens: INPUT_TOKENS_DEFAULT, outputTokensMax: 128_000 });
    expect(budgetOf("compatible/llama3.2")).toEqual({ inputTokens: INPUT_TOKENS_UNKNOWN, outputTokensMax: null });
    const large = createBudgetOf(500_000);
    expect(large("anthropic/claude-sonnet-4-6")).toEqual({ inputTokens: 168_000, outputTokensMax: 32_000 });
    expect(large("openai/gpt-4o-2024-08-06").inputTokens).toBe(111_616);
    expect(large("compatible/llama3.2").inputTokens).toBe(500_000);
  });

  test("the cheapest known model writes in the background, else the last, never an offline one", () => {
    const find = (...models: string[]) => findCheapestModel(models, defaultPrices);
    expect(find("openai/gpt-5.2", "openai/gpt-5-nano", "anthropic/claude-haiku-4-5", "offline/documents")).toBe(
      "openai/gpt-5-nano",
    );
    expect(find("compatible/a", "compatible/b", "offline/documents")).toBe("compatible/b");
    expect(find("offline/documents")).toBeNull();
  });
});

describe("messages for a smaller model", () => {
  const words = "word ".repeat(50);
  const user = (content: string): ChatMessage => ({ role: "user", content });
  const assistant = (content: string): ChatMessage => ({ role: "assistant", content });
  const all: ChatMessage[] = [
    { role: "system", content: "Prompt" },
    user(`1 ${words}`),
    assistant(`2 ${words}`),
    user(`3 ${words}`),
    assistant(`4 ${words}`),
    user("5"),
  ];
  const firsts = (messages: ChatMessage[]) => messages.map(({ content }) => content.slice(0, 1)).join("");

  test("stay as they are where they fit", () => {
    expect(fitMessages(all, 1_000_000)).toEqual(all);
    expect(fitMessages(all, countMessages(all))).toEqual(all);
  });

  test("lose the oldest first, begin with a user, and never lose the system text or the question", () => {
    expect(firsts(fitMessages(all, countMessages(all) - 1))).toBe("P345");
    expect(firsts(fitMessages(all, 100))).toBe("P5");
    expect(firsts(fitMessages(all, 1))).toBe("P5");
  });

  test("keep a tool's result with its call", () => {
    const withTools: ChatMessage[] = [
      user(`1 ${words}`),
      { role: "assistant", content: "", toolCalls: [{ id: "c", name: "f", arguments: "{}" }] },
      { role: "tool", content: `r ${words}`, toolCallId: "c" },
      assistant("2"),
      user("3"),
    ];
    expect(firsts(fitMessages(withTools, 60))).toBe("3");
    expect(firsts(fitMessages(withTools.slice(0, 3), 1))).toBe("1r");
  });
});

describe("a chain", () => {
  const askedOf = async (request: { isFitted?: boolean; hasFallback?: boolean }) => {
    const asked: Record<string, { messages: number; outputTokensMax: number | null }> = {};
    const provider: Provider = {
      name: "compatible",
      async *stream({ model, messages, outputTokensMax }) {
        asked[model] = { messages: messages.length, outputTokensMax };
        if (model === "large") yield { type: "error", error: createProviderError("provider_refused", "no") };
        else {
          yield { type: "text", text: "x" };
          yield { type: "finish", reason: "stop", usage: null };
        }
      },
    };
    const chain = createChain({
      providers: new Map([["compatible", provider]]),
      models: ["compatible/large", "compatible/small"],
      firstTokenTimeoutMs: 1_000,
      idleTimeoutMs: 1_000,
      maxRetries: 0,
      log: silentLog,
      budgetOf: (model) =>
        model.endsWith("large")
          ? { inputTokens: 10_000, outputTokensMax: null }
          : { inputTokens: 60, outputTokensMax: 50 },
    });
    const content = "word ".repeat(50);
    const messages: ChatMessage[] = [1, 2, 3].map(() => ({ role: "user", content }));
    for await (const _ of chain.run({ model: null, messages, signal: new AbortController().signal, ...request }));
    return asked;
  };

  test("gives each model what fits it", async () => {
    expect(await askedOf({ isFitted: true })).toEqual({
      large: { messages: 3, outputTokensMax: null },
      small: { messages: 1, outputTokensMax: 50 },
    });
  });

  test("gives every model all, unless it is told otherwise", async () => {
    expect((await askedOf({})).small).toEqual({ messages: 3, outputTokensMax: null });
  });

  test("asks no other model where there is to be no fallback", async () => {
    expect(Object.keys(await askedOf({ hasFallback: false }))).toEqual(["large"]);
  });
});

describe("Anthropic's cache", () => {
  const request = (messages: ChatMessage[]) =>
    mapToMessagesRequest({
      model: "claude-x",
      messages,
      partial: null,
      outputTokensMax: null,
      options: {},
      signal: new AbortController().signal,
    });
  const system: ChatMessage = { role: "system", content: "s".repeat(CACHED_LENGTH_MIN) };

  test("is asked to keep the prompt and the turns before the question", () => {
    const { system: sent, messages } = request([
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

  test("is left alone for a short conversation", () => {
    expect(
      JSON.stringify(
        request([
          { role: "system", content: "short" },
          { role: "user", content: "1" },
        ]),
      ),
    ).not.toContain("cache_control");
    expect(JSON.stringify(request([{ role: "user", content: "long ".repeat(5_000) }]))).not.toContain("cache_control");
  });
});
