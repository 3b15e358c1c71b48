import { expect, test } from "bun:test";
import { calculateCostUsd } from "../../src/ai/chain/bill.ts";
import { createCatalog, findCheapestModel, INPUT_TOKENS_DEFAULT, INPUT_TOKENS_UNKNOWN } from "../../src/ai/models.ts";
import { noUsage } from "../../src/ai/usage.ts";
import type { PriceTable } from "../../src/lib/prices.ts";

test("token budgets fit the model's context window and the configured context", () => {
  const { getBudget } = createCatalog();
  expect(getBudget("openai/gpt-5.2")).toEqual({ inputTokens: INPUT_TOKENS_DEFAULT, outputTokensMax: 128_000 });
  expect(getBudget("compatible/llama3.2")).toEqual({ inputTokens: INPUT_TOKENS_UNKNOWN, outputTokensMax: null });
  const { getBudget: getLargeBudget } = createCatalog({ inputTokens: 500_000 });
  expect(getLargeBudget("anthropic/claude-sonnet-4-6")).toEqual({ inputTokens: 500_000, outputTokensMax: 64_000 });
  expect(getLargeBudget("openai/gpt-4o-2024-08-06").inputTokens).toBe(111_616);
  expect(getLargeBudget("compatible/llama3.2").inputTokens).toBe(500_000);
});

test("the cheapest model has the lowest known price, or is the last one if no price is known, and is never the offline model", () => {
  const findCheapest = (...models: string[]) => findCheapestModel(models, createCatalog().prices);
  expect(findCheapest("openai/gpt-5.2", "openai/gpt-5-nano", "anthropic/claude-haiku-4-5", "offline/documents")).toBe(
    "openai/gpt-5-nano",
  );
  expect(findCheapest("compatible/a", "compatible/b", "offline/documents")).toBe("compatible/b");
  expect(findCheapest("offline/documents")).toBeNull();
});

test.each([
  ["anthropic/claude-3-haiku-20240307", 4_096],
  ["anthropic/claude-3-5-haiku-latest", 8_192],
  ["anthropic/claude-3-5-sonnet-20241022", 8_192],
  ["anthropic/claude-3-7-sonnet-20250219", 64_000],
  ["anthropic/claude-opus-4-20250514", 32_000],
  ["anthropic/claude-opus-4-1-20250805", 32_000],
  ["anthropic/claude-sonnet-4-20250514", 64_000],
  ["anthropic/claude-haiku-4-5-20251001", 64_000],
  ["anthropic/claude-opus-4-5-20251101", 64_000],
  ["anthropic/claude-opus-4-6", 128_000],
  ["anthropic/claude-opus-5-5", 128_000],
  ["anthropic/claude-unknown", 32_000],
  ["openai/gpt-4o-2024-05-13", 4_096],
  ["openai/gpt-4o-2024-08-06", 16_384],
  ["openai/gpt-4-turbo-2024-04-09", 4_096],
  ["openai/gpt-3.5-turbo-0125", 4_096],
  ["openai/gpt-5-chat-latest", 16_384],
  ["openai/gpt-5-pro-2025-10-06", 272_000],
  ["openai/gpt-5.2", 128_000],
  ["openai/o1-2024-12-17", 100_000],
  ["openai/gpt-6.2-sol", 128_000],
  ["compatible/gpt-4", null],
])("the answer length limit of %s is %p", (model, tokens) => {
  expect(createCatalog().getBudget(model).outputTokensMax).toBe(tokens);
});

test("a small context window is divided between the prompt and the answer", () => {
  const { getBudget } = createCatalog({ inputTokens: 10_000_000 });
  expect(getBudget("openai/gpt-4")).toEqual({ inputTokens: 4_096, outputTokensMax: 4_096 });
  expect(getBudget("openai/gpt-5-pro").inputTokens).toBe(128_000);
  expect(getBudget("anthropic/claude-opus-4-6").inputTokens).toBe(872_000);
});

test("an unknown model has every capability, and the offline model has none", () => {
  const { hasCapability } = createCatalog();
  expect([hasCapability("openai/gpt-5.2", "thinking"), hasCapability("openai/gpt-4o", "thinking")]).toEqual([
    true,
    false,
  ]);
  expect([hasCapability("compatible/llama3.2", "tools"), hasCapability("offline/documents", "tools")]).toEqual([
    true,
    false,
  ]);
});

test("a model behind a gateway has its original capabilities, but not its original limits and prices", () => {
  const { hasCapability, getBudget, prices } = createCatalog();
  expect([
    hasCapability("openrouter/openai/gpt-5.2", "thinking"),
    hasCapability("openrouter/openai/gpt-4o", "thinking"),
  ]).toEqual([true, false]);
  expect([
    hasCapability("gate/anthropic/claude-3-haiku", "thinking"),
    hasCapability("gate/claude-3-haiku", "thinking"),
  ]).toEqual([false, true]);
  expect(hasCapability("openrouter/meta-llama/llama-4:free", "tools")).toBe(true);
  expect(getBudget("openrouter/anthropic/claude-sonnet-4-6")).toEqual({
    inputTokens: INPUT_TOKENS_UNKNOWN,
    outputTokensMax: null,
  });
  expect(calculateMillionCost("openrouter/openai/gpt-5.2", prices)).toBeNull();
  expect(calculateMillionCost("x/a/b:free", createCatalog({ prices: "x/a/b:free=1/2" }).prices)).toBe(3);
});

/** A tenth of a million tokens. The test doesn't use a million, because some models charge more for longer prompts. */
const tenthOfMillion = { ...noUsage, input_tokens: 100_000, output_tokens: 100_000 };
const calculateMillionCost = (model: string, prices: PriceTable) => {
  const cost = calculateCostUsd(model, tenthOfMillion, prices);
  return cost === null ? null : Math.round(cost * 1e9) / 1e8;
};

test.each([
  ["openai/gpt-5.2", 15.75],
  ["openai/gpt-4o-2024-08-06", 12.5],
  ["openai/gpt-4o-2024-05-13", 20],
  ["openai/gpt-4-0613", 90],
  ["anthropic/claude-haiku-4-5-20251001", 6],
  ["offline/documents", 0],
  ["openai/gpt-5.2-unknown", null],
  ["compatible/gpt-5.2", null],
  ["constructor", null],
])("a million input and output tokens of %s cost %p", (model, cost) => {
  expect(calculateMillionCost(model, createCatalog().prices)).toBe(cost);
});

test("configured prices override list prices", () => {
  const { prices } = createCatalog({ prices: "compatible/own=1/2,openai/gpt-5.2=7/8" });
  expect(calculateMillionCost("compatible/own", prices)).toBe(3);
  expect(calculateMillionCost("openai/gpt-5.2", prices)).toBe(15);
  expect(calculateMillionCost("openai/gpt-4o", prices)).toBe(12.5);
  expect(createCatalog({ prices: "nonsense" }).prices["openai/gpt-4o"]).toEqual({
    input: 2.5,
    output: 10,
    cached_input: 1.25,
  });
});
