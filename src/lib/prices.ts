import { findByModel } from "./model-names.ts";

/** US dollars per million tokens. */
export type Price = {
  /** Prompt tokens, except cached ones. */
  input: number;
  /** All tokens that the model writes, including reasoning. */
  output: number;
  /** Prompt tokens read from the provider's cache; absent: as `input`. */
  cached_input?: number;
  /** Prompt tokens written to the provider's cache; absent: as `input`. */
  cache_write?: number;
  /** Factors for the price of the whole request if its prompt has more tokens than this. */
  long_prompt?: { above_tokens: number; input_factor: number; output_factor: number };
};

export type PriceTable = Readonly<Record<string, Price>>;

/** The tokens of one request to one model; cached and written ones are included in `input_tokens`. */
export type PricedTokens = {
  input_tokens: number;
  output_tokens: number;
  cached_input_tokens: number;
  cache_write_tokens: number;
};

/** The price of a model's tokens; undefined if unknown. */
export const findPrice = (model: string, prices: PriceTable): Price | undefined => findByModel(model, prices);

const normalFactors = { input_factor: 1, output_factor: 1 };

const findFactors = ({ long_prompt: long }: Price, promptTokens: number) =>
  long && promptTokens > long.above_tokens ? long : normalFactors;

/** The cost of one request, in US dollars. */
export function calculateRequestCostUsd(price: Price, tokens: PricedTokens): number {
  const { input, output, cached_input = input, cache_write = input } = price;
  const { input_tokens, output_tokens, cached_input_tokens, cache_write_tokens } = tokens;
  const { input_factor, output_factor } = findFactors(price, input_tokens);
  const prompt =
    (input_tokens - cached_input_tokens - cache_write_tokens) * input +
    cached_input_tokens * cached_input +
    cache_write_tokens * cache_write;
  return (prompt * input_factor + output_tokens * output * output_factor) / 1_000_000;
}

/**
 * The maximum prices for a request with a prompt of at most this many tokens, in US dollars per million: it is unknown in
 * advance what a provider reads from its cache or writes to it.
 */
export function findHighestPrices(price: Price, promptTokensMax: number): { input: number; output: number } {
  const { input, output, cached_input = input, cache_write = input } = price;
  const { input_factor, output_factor } = findFactors(price, promptTokensMax);
  return { input: Math.max(input, cached_input, cache_write) * input_factor, output: output * output_factor };
}
