import type { Price, PriceTable } from "../lib/prices.ts";

/** Sources of the prices below. `make docs` copies them to docs/models.md. */
export const priceSources = [
  { prefix: "openai/", provider: "OpenAI", url: "https://developers.openai.com/api/docs/pricing" },
  { prefix: "anthropic/", provider: "Anthropic", url: "https://platform.claude.com/docs/en/about-claude/pricing" },
] as const;

/** Month in which the prices were last compared with their sources. */
export const PRICES_VERIFIED_MONTH = "November 2026";

/** For OpenAI models with a million-token window: a long prompt doubles the input price and raises the output price by 50%. */
const longPrompt = { long_prompt: { above_tokens: 272_000, input_factor: 2, output_factor: 1.5 } };

/** Prices up to GPT-5.5, where cache writes cost the same as `input`. */
const openAi = (input: number, cached_input: number, output: number): Price => ({ input, output, cached_input });

/** Prices from GPT-5.6 on, where cache writes cost 25% more than `input`. */
const openAiWithWrites = (input: number, cached_input: number, output: number): Price => ({
  ...openAi(input, cached_input, output),
  cache_write: input * 1.25,
  ...longPrompt,
});

/** Anthropic's prices. Cache writes cost 25% more than `input`, because Parley uses the 5-minute cache. */
const anthropic = (input: number, cached_input: number, output: number): Price => ({
  input,
  output,
  cached_input,
  cache_write: input * 1.25,
});

/**
 * List prices, without batch discounts. A dated model name has the price of its undated name unless it is listed itself. The
 * price of an unlisted model is unknown, so its cost is null.
 */
export const pricesByModel: PriceTable = {
  "openai/gpt-6.2-sol": openAiWithWrites(2, 0.1, 10),
  "openai/gpt-6.1-sol": openAiWithWrites(2, 0.1, 10),
  "openai/gpt-6.1-terra": openAiWithWrites(1, 0.05, 5),
  "openai/gpt-6-astra": openAiWithWrites(10, 1, 50),
  "openai/gpt-6-sol": openAiWithWrites(2, 0.2, 10),
  "openai/gpt-6-luna": openAiWithWrites(0.1, 0.01, 0.5),
  "openai/gpt-5.6-terra": openAiWithWrites(2, 0.2, 12),
  "openai/gpt-5.6-luna": openAiWithWrites(0.2, 0.02, 1.2),
  "openai/gpt-5.5": { ...openAi(5, 0.5, 30), ...longPrompt },
  "openai/gpt-5.5-pro": { input: 30, output: 180, ...longPrompt },
  "openai/gpt-5.4": { ...openAi(2.5, 0.25, 15), ...longPrompt },
  "openai/gpt-5.4-mini": openAi(0.75, 0.075, 4.5),
  "openai/gpt-5.4-nano": openAi(0.2, 0.02, 1.25),
  "openai/gpt-5.4-pro": { input: 30, output: 180, ...longPrompt },
  "openai/gpt-5.3-chat-latest": openAi(1.75, 0.175, 14),
  "openai/gpt-5.2": openAi(1.75, 0.175, 14),
  "openai/gpt-5.2-chat-latest": openAi(1.75, 0.175, 14),
  "openai/gpt-5.2-pro": { input: 21, output: 168 },
  "openai/gpt-5.1": openAi(1.25, 0.125, 10),
  "openai/gpt-5.1-chat-latest": openAi(1.25, 0.125, 10),
  "openai/gpt-5": openAi(1.25, 0.125, 10),
  "openai/gpt-5-chat-latest": openAi(1.25, 0.125, 10),
  "openai/gpt-5-pro": { input: 15, output: 120 },
  "openai/gpt-5-mini": openAi(0.25, 0.025, 2),
  "openai/gpt-5-nano": openAi(0.05, 0.005, 0.4),
  "openai/gpt-4.1": openAi(2, 0.5, 8),
  "openai/gpt-4.1-mini": openAi(0.4, 0.1, 1.6),
  "openai/gpt-4.1-nano": openAi(0.1, 0.025, 0.4),
  "openai/gpt-4o": openAi(2.5, 1.25, 10),
  "openai/gpt-4o-2024-05-13": { input: 5, output: 15 },
  "openai/gpt-4o-mini": openAi(0.15, 0.075, 0.6),
  "openai/gpt-4-turbo": { input: 10, output: 30 },
  "openai/gpt-4": { input: 30, output: 60 },
  "openai/gpt-4-0613": { input: 30, output: 60 },
  "openai/gpt-3.5-turbo": { input: 0.5, output: 1.5 },
  "openai/gpt-3.5-turbo-0125": { input: 0.5, output: 1.5 },
  "openai/gpt-3.5-turbo-1106": { input: 1, output: 2 },
  "openai/o4-mini": openAi(1.1, 0.275, 4.4),
  "openai/o3": openAi(2, 0.5, 8),
  "openai/o3-mini": openAi(1.1, 0.55, 4.4),
  "openai/o3-pro": { input: 20, output: 80 },
  "openai/o1": openAi(15, 7.5, 60),
  "openai/o1-pro": { input: 150, output: 600 },
  "anthropic/claude-fable-5-1": anthropic(10, 0.25, 50),
  "anthropic/claude-fable-5": anthropic(10, 1, 50),
  "anthropic/claude-opus-5-5": anthropic(4, 0.2, 20),
  "anthropic/claude-opus-5": anthropic(5, 0.5, 25),
  "anthropic/claude-opus-4-8": anthropic(5, 0.5, 25),
  "anthropic/claude-opus-4-7": anthropic(5, 0.5, 25),
  "anthropic/claude-opus-4-6": anthropic(5, 0.5, 25),
  "anthropic/claude-opus-4-5": anthropic(5, 0.5, 25),
  "anthropic/claude-opus-4-1": anthropic(15, 1.5, 75),
  "anthropic/claude-opus-4": anthropic(15, 1.5, 75),
  "anthropic/claude-opus-4-0": anthropic(15, 1.5, 75),
  "anthropic/claude-sonnet-5-5": anthropic(2, 0.1, 10),
  "anthropic/claude-sonnet-5": anthropic(2, 0.2, 10),
  "anthropic/claude-sonnet-4-6": anthropic(3, 0.3, 15),
  "anthropic/claude-sonnet-4-5": anthropic(3, 0.3, 15),
  "anthropic/claude-sonnet-4": anthropic(3, 0.3, 15),
  "anthropic/claude-sonnet-4-0": anthropic(3, 0.3, 15),
  "anthropic/claude-haiku-5-5": {
    ...anthropic(0.1, 0.01, 0.5),
    long_prompt: { above_tokens: 100_000, input_factor: 5, output_factor: 5 },
  },
  "anthropic/claude-haiku-4-5": anthropic(1, 0.1, 5),
  "anthropic/claude-3-7-sonnet": anthropic(3, 0.3, 15),
  "anthropic/claude-3-5-sonnet": anthropic(3, 0.3, 15),
  "anthropic/claude-3-5-haiku": anthropic(0.8, 0.08, 4),
  "anthropic/claude-3-opus": anthropic(15, 1.5, 75),
  // The price page rounds the cache prices up.
  "anthropic/claude-3-haiku": { input: 0.25, output: 1.25, cached_input: 0.03, cache_write: 0.3 },
  "offline/documents": { input: 0, output: 0 },
};
