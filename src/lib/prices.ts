import { findByModel } from "./model-names.ts";

/** US dollars per million tokens. */
export type Price = {
  /** The price of prompt tokens, except cached ones. */
  input: number;
  /** The price of all output tokens, including reasoning. */
  output: number;
  /** The price of prompt tokens read from the provider's cache. The default is `input`. */
  cached_input?: number;
  /** The price of prompt tokens written to the provider's cache. The default is `input`. */
  cache_write?: number;
  /** Factors for the price of the whole request if its prompt has more than `above_tokens` tokens. */
  long_prompt?: { above_tokens: number; input_factor: number; output_factor: number };
};

export type PriceTable = Readonly<Record<string, Price>>;

/** The tokens of one request to a model. `input_tokens` includes those read from and written to the cache. */
export type PricedTokens = {
  input_tokens: number;
  output_tokens: number;
  cached_input_tokens: number;
  cache_write_tokens: number;
};

/** Finds a model's price. Returns undefined if it is unknown. */
export const findPrice = (model: string, prices: PriceTable): Price | undefined => findByModel(model, prices);

const normalFactors = { input_factor: 1, output_factor: 1 };

const findPriceFactors = ({ long_prompt: longPrompt }: Price, promptTokens: number) =>
  longPrompt && promptTokens > longPrompt.above_tokens ? longPrompt : normalFactors;

/** Calculates the cost of one request, in US dollars. */
export function calculateRequestCostUsd(price: Price, tokens: PricedTokens): number {
  const { input, output, cached_input = input, cache_write = input } = price;
  const { input_tokens, output_tokens, cached_input_tokens, cache_write_tokens } = tokens;
  const { input_factor, output_factor } = findPriceFactors(price, input_tokens);
  const prompt =
    (input_tokens - cached_input_tokens - cache_write_tokens) * input +
    cached_input_tokens * cached_input +
    cache_write_tokens * cache_write;
  return (prompt * input_factor + output_tokens * output * output_factor) / 1_000_000;
}

/**
 * Returns the highest possible prices for a request with a prompt of at most this many tokens. It isn't known in advance which
 * tokens a provider will read from its cache or write to it.
 */
export function findHighestPrices(price: Price, promptTokensMax: number): { input: number; output: number } {
  const { input, output, cached_input = input, cache_write = input } = price;
  const { input_factor, output_factor } = findPriceFactors(price, promptTokensMax);
  return { input: Math.max(input, cached_input, cache_write) * input_factor, output: output * output_factor };
}
