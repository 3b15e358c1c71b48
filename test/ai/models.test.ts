import { expect, test } from "bun:test";
import { calculateCostUsd } from "../../src/ai/chain/bill.ts";
import { createCatalog, findCheapestModel, INPUT_TOKENS_DEFAULT, INPUT_TOKENS_UNKNOWN } from "../../src/ai/models.ts";
import { noUsage } from "../../src/ai/usage.ts";
import type { PriceTable } from "../../src/lib/prices.ts";

test("token budgets reserve the answer's share, limit the context, and have a default for unknown models", () => {
  const { budgetOf } = createCatalog();
  expect(budgetOf("openai/gpt-5.2")).toEqual({ inputTokens: INPUT_TOKENS_DEFAULT, outputTokensMax: 128_000 });
  expect(budgetOf("compatible/llama3.2")).toEqual({ inputTokens: INPUT_TOKENS_UNKNOWN, outputTokensMax: null });
  const { budgetOf: large } = createCatalog({ inputTokens: 500_000 });
  expect(large("anthropic/claude-sonnet-4-6")).toEqual({ inputTokens: 500_000, outputTokensMax: 64_000 });
  expect(large("openai/gpt-4o-2024-08-06").inputTokens).toBe(111_616);
  expect(large("compatible/llama3.2").inputTokens).toBe(500_000);
});

test("background texts use the cheapest known model, else the last, never the offline model", () => {
  const find = (...models: string[]) => findCheapestModel(models, createCatalog().prices);
  expect(find("openai/gpt-5.2", "openai/gpt-5-nano", "anthropic/claude-haiku-4-5", "offline/documents")).toBe(
    "openai/gpt-5-nano",
  );
  expect(find("compatible/a", "compatible/b", "offline/documents")).toBe("compatible/b");
  expect(find("offline/documents")).toBeNull();
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
  ["anthropic/claude-never-heard-of", 32_000],
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
])("%s isn't asked for a longer answer than it supports", (model, tokens) => {
  expect(createCatalog().budgetOf(model).outputTokensMax).toBe(tokens);
});

test("a small context window leaves room for a prompt and an answer", () => {
  const { budgetOf } = createCatalog({ inputTokens: 10_000_000 });
  expect(budgetOf("openai/gpt-4")).toEqual({ inputTokens: 4_096, outputTokensMax: 4_096 });
  expect(budgetOf("openai/gpt-5-pro").inputTokens).toBe(128_000);
  expect(budgetOf("anthropic/claude-opus-4-6").inputTokens).toBe(872_000);
});

test("a model of an unknown family supports everything, the offline model nothing", () => {
  const { can } = createCatalog();
  expect([can("openai/gpt-5.2", "thinking"), can("openai/gpt-4o", "thinking")]).toEqual([true, false]);
  expect([can("compatible/llama3.2", "tools"), can("offline/documents", "tools")]).toEqual([true, false]);
});

test("a model behind a gateway has its original features, with the gateway's limits and prices", () => {
  const { can, budgetOf, prices } = createCatalog();
  expect([can("openrouter/openai/gpt-5.2", "thinking"), can("openrouter/openai/gpt-4o", "thinking")]).toEqual([
    true,
    false,
  ]);
  expect([can("gate/anthropic/claude-3-haiku", "thinking"), can("gate/claude-3-haiku", "thinking")]).toEqual([
    false,
    true,
  ]);
  expect(can("openrouter/meta-llama/llama-4:free", "tools")).toBe(true);
  expect(budgetOf("openrouter/anthropic/claude-sonnet-4-6")).toEqual({
    inputTokens: INPUT_TOKENS_UNKNOWN,
    outputTokensMax: null,
  });
  expect(calculate("openrouter/openai/gpt-5.2", prices)).toBeNull();
  expect(calculate("x/a/b:free", createCatalog({ prices: "x/a/b:free=1/2" }).prices)).toBe(3);
});

/** A million input and output tokens, from requests with short prompts. */
const million = { ...noUsage, input_tokens: 100_000, output_tokens: 100_000 };
const calculate = (model: string, prices: PriceTable) => {
  const cost = calculateCostUsd(model, million, prices);
  return cost === null ? null : Math.round(cost * 1e9) / 1e8;
};

test.each([
  ["openai/gpt-5.2", 15.75],
  ["openai/gpt-4o-2024-08-06", 12.5],
  ["openai/gpt-4o-2024-05-13", 20],
  ["openai/gpt-4-0613", 90],
  ["anthropic/claude-haiku-4-5-20251001", 6],
  ["offline/documents", 0],
  ["openai/gpt-5.2-unheard-of", null],
  ["compatible/gpt-5.2", null],
  ["constructor", null],
])("a million input and output tokens of %s cost %p", (model, cost) => {
  expect(calculate(model, createCatalog().prices)).toBe(cost);
});

test("configured prices override list prices", () => {
  const { prices } = createCatalog({ prices: "compatible/own=1/2,openai/gpt-5.2=7/8" });
  expect(calculate("compatible/own", prices)).toBe(3);
  expect(calculate("openai/gpt-5.2", prices)).toBe(15);
  expect(calculate("openai/gpt-4o", prices)).toBe(12.5);
  expect(createCatalog({ prices: "nonsense" }).prices["openai/gpt-4o"]).toEqual({
    input: 2.5,
    output: 10,
    cached_input: 1.25,
  });
});
