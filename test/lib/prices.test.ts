import { expect, test } from "bun:test";
import { pricesByModel } from "../../src/ai/price-list.ts";
import { calculateRequestCostUsd, findHighestPrices, findPrice, type PricedTokens } from "../../src/lib/prices.ts";

const createTokens = (input: number, output: number, cached = 0, written = 0): PricedTokens => ({
  input_tokens: input,
  output_tokens: output,
  cached_input_tokens: cached,
  cache_write_tokens: written,
});

const calculateCostUsd = (model: string, tokens: PricedTokens): number => {
  const price = findPrice(model, pricesByModel);
  if (!price) throw new Error(`No price for ${model}.`);
  return calculateRequestCostUsd(price, tokens);
};

// US dollars per million tokens from the providers' price pages: uncached prompt, cache read, cache write, output.
test.each([
  ["anthropic/claude-sonnet-4-6", 3, 0.3, 3.75, 15],
  ["anthropic/claude-haiku-4-5-20251001", 1, 0.1, 1.25, 5],
  ["anthropic/claude-opus-4-1", 15, 1.5, 18.75, 75],
  ["anthropic/claude-opus-5-5", 4, 0.2, 5, 20],
  ["anthropic/claude-sonnet-5-5", 2, 0.1, 2.5, 10],
  ["anthropic/claude-fable-5-1", 10, 0.25, 12.5, 50],
  ["anthropic/claude-3-haiku-20240307", 0.25, 0.03, 0.3, 1.25],
  ["anthropic/claude-3-5-haiku-latest", 0.8, 0.08, 1, 4],
  ["openai/gpt-5.2", 1.75, 0.175, 1.75, 14],
  ["openai/gpt-5-mini", 0.25, 0.025, 0.25, 2],
  ["openai/gpt-5-pro", 15, 15, 15, 120],
  ["openai/gpt-5.6-luna", 0.2, 0.02, 0.25, 1.2],
  ["openai/gpt-6.2-sol", 2, 0.1, 2.5, 10],
  ["openai/gpt-4.1", 2, 0.5, 2, 8],
  ["openai/gpt-4o", 2.5, 1.25, 2.5, 10],
  ["openai/gpt-4o-mini-2024-07-18", 0.15, 0.075, 0.15, 0.6],
  ["openai/o3", 2, 0.5, 2, 8],
  ["openai/o4-mini", 1.1, 0.275, 1.1, 4.4],
])("%s has a separate price for each kind of token", (model, uncached, read, written, output) => {
  expect(calculateCostUsd(model, createTokens(50_000, 0))).toBeCloseTo(0.05 * uncached, 12);
  expect(calculateCostUsd(model, createTokens(50_000, 0, 50_000))).toBeCloseTo(0.05 * read, 12);
  expect(calculateCostUsd(model, createTokens(50_000, 0, 0, 50_000))).toBeCloseTo(0.05 * written, 12);
  expect(calculateCostUsd(model, createTokens(0, 50_000))).toBeCloseTo(0.05 * output, 12);
  const totalUsd = (1_000 * uncached + 40_000 * read + 9_000 * written + 700 * output) / 1_000_000;
  expect(calculateCostUsd(model, createTokens(50_000, 700, 40_000, 9_000))).toBeCloseTo(totalUsd, 12);
});

test.each([
  ["openai/gpt-5.5", 272_000, 272_000 * 5 + 1_000 * 30, 272_001 * 10 + 1_000 * 45],
  ["anthropic/claude-haiku-5-5", 100_000, 100_000 * 0.1 + 1_000 * 0.5, 100_001 * 0.5 + 1_000 * 2.5],
])(
  "all tokens of a request to %s cost more if it has over %p prompt tokens",
  (model, tokensMax, costBelow, costAbove) => {
    expect(calculateCostUsd(model, createTokens(tokensMax, 1_000))).toBeCloseTo(costBelow / 1_000_000, 9);
    expect(calculateCostUsd(model, createTokens(tokensMax + 1, 1_000))).toBeCloseTo(costAbove / 1_000_000, 9);
  },
);

test("the highest prices, for which budget is reserved, cover every kind of token", () => {
  const findHighest = (model: string, promptTokens: number) =>
    findHighestPrices(findPrice(model, pricesByModel) ?? { input: -1, output: -1 }, promptTokens);
  expect(findHighest("anthropic/claude-sonnet-4-6", 64_000)).toEqual({ input: 3.75, output: 15 });
  expect(findHighest("openai/gpt-5.2", 64_000)).toEqual({ input: 1.75, output: 14 });
  expect(findHighest("openai/gpt-5.4", 300_000)).toEqual({ input: 5, output: 22.5 });
  expect(findHighestPrices({ input: 1, output: 2, cached_input: 3 }, 10)).toEqual({ input: 3, output: 2 });
});
