import { findByModel } from "./model-names.ts";

/** US dollars per million tokens. */
export type Price = {
  /** Of the prompt, as far as no cache has a part in it. */
  input: number;
  /** Of all that the model writes, reasoning too. */
  output: number;
  /** Of the part of the prompt that was read from the provider's cache; absent: as `input`. */
  cached_input?: number;
  /** Of the part of the prompt that was written to the provider's cache; absent: as `input`. */
  cache_write?: number;
  /** The whole request costs so many times as much if its prompt has more tokens than this. */
  long_prompt?: { above_tokens: number; input_factor: number; output_factor: number };
};

export type PriceTable = Readonly<Record<string, Price>>;

/** The tokens of one request to one model; the cached and the written ones are parts of `input_tokens`. */
export type PricedTokens = {
  input_tokens: number;
  output_tokens: number;
  cached_input_tokens: number;
  cache_write_tokens: number;
};

/** What a model's tokens cost; undefined when that is not known. */
export const findPrice = (model: string, prices: PriceTable): Price | undefined => findByModel(model, prices);

const normalFactors = { input_factor: 1, output_factor: 1 };

const findFactors = ({ long_prompt: long }: Price, promptTokens: number) =>
  long && promptTokens > long.above_tokens ? long : normalFactors;

/** What one request costs, in US dollars. */
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
 * The most that tokens may cost of a request with a prompt of at most so many tokens, in US dollars per million: nobody
 * knows beforehand what a provider reads from its cache or writes to it.
 */
export function findHighestPrices(price: Price, promptTokensMax: number): { input: number; output: number } {
  const { input, output, cached_input = input, cache_write = input } = price;
  const { input_factor, output_factor } = findFactors(price, promptTokensMax);
  return { input: Math.max(input, cached_input, cache_write) * input_factor, output: output * output_factor };
}
