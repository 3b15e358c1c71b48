import { expect, test } from "bun:test";
import { calculateCostUsd } from "../../src/ai/chain/bill.ts";
import {
  createCatalogue,
  families,
  findCheapestModel,
  INPUT_TOKENS_DEFAULT,
  INPUT_TOKENS_UNKNOWN,
} from "../../src/ai/models.ts";

test("budgets keep the answer's share free, cap what is shown, and know what to do with an unknown model", () => {
  const { budgetOf } = createCatalogue();
  expect(budgetOf("openai/gpt-5.2")).toEqual({ inputTokens: INPUT_TOKENS_DEFAULT, outputTokensMax: 128_000 });
  expect(budgetOf("compatible/llama3.2")).toEqual({ inputTokens: INPUT_TOKENS_UNKNOWN, outputTokensMax: null });
  const { budgetOf: large } = createCatalogue({ inputTokens: 500_000 });
  expect(large("anthropic/claude-sonnet-4-6")).toEqual({ inputTokens: 168_000, outputTokensMax: 32_000 });
  expect(large("openai/gpt-4o-2024-08-06").inputTokens).toBe(111_616);
  expect(large("compatible/llama3.2").inputTokens).toBe(500_000);
});

test("the cheapest known model writes in the background, else the last, never an offline one", () => {
  const find = (...models: string[]) => findCheapestModel(models, createCatalogue().prices);
  expect(find("openai/gpt-5.2", "openai/gpt-5-nano", "anthropic/claude-haiku-4-5", "offline/documents")).toBe(
    "openai/gpt-5-nano",
  );
  expect(find("compatible/a", "compatible/b", "offline/documents")).toBe("compatible/b");
  expect(find("offline/documents")).toBeNull();
});

test("every price is that of a model of its family, and families do not hide each other", () => {
  for (const family of families)
    for (const model of Object.keys(family.prices))
      expect([model, families.find(({ prefix }) => model.startsWith(prefix))?.prefix]).toEqual([model, family.prefix]);
});

test("a model of no family may do anything, the offline model nothing", () => {
  const { can } = createCatalogue();
  expect([can("openai/gpt-5.2", "thinking"), can("openai/gpt-4o", "thinking")]).toEqual([true, false]);
  expect([can("compatible/llama3.2", "tools"), can("offline/documents", "tools")]).toEqual([true, false]);
});

const million = { input_tokens: 1_000_000, output_tokens: 1_000_000 };

test.each([
  ["openai/gpt-5.2", 15.75],
  ["openai/gpt-4o-2024-08-06", 12.5],
  ["anthropic/claude-haiku-4-5-20251001", 6],
  ["offline/documents", 0],
  ["openai/gpt-5.2-unheard-of", null],
  ["compatible/gpt-5.2", null],
  ["constructor", null],
])("a million tokens in and out of %s cost %p", (model, cost) => {
  expect(calculateCostUsd(model, million, createCatalogue().prices)).toBe(cost);
});

test("prices can be given, and go before those of the list", () => {
  const { prices } = createCatalogue({ prices: "compatible/own=1/2,openai/gpt-5.2=7/8" });
  expect(calculateCostUsd("compatible/own", million, prices)).toBe(3);
  expect(calculateCostUsd("openai/gpt-5.2", million, prices)).toBe(15);
  expect(calculateCostUsd("openai/gpt-4o", million, prices)).toBe(12.5);
  expect(createCatalogue({ prices: "nonsense" }).prices["openai/gpt-4o"]).toEqual({ input: 2.5, output: 10 });
});
