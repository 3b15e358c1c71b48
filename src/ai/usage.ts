import type { RunUsage } from "./answer-part.ts";
import type { ReportedUsage, Usage } from "./provider.ts";

export const noUsage: Readonly<Usage> = {
  input_tokens: 0,
  output_tokens: 0,
  cached_input_tokens: 0,
  cache_write_tokens: 0,
  reasoning_tokens: 0,
};

/** Maximum token count that can be stored (`int4`). Larger counts are capped, so that the answer isn't lost. */
export const USAGE_TOKENS_MAX = 2 ** 31 - 1;

const addTokens = (a: number, b: number): number => Math.min(a + b, USAGE_TOKENS_MAX);

/** Adds the tokens of two attempts or steps. */
export function addUsage(first: RunUsage | null, second: RunUsage | null): RunUsage | null {
  if (!first || !second) return first ?? second;
  return {
    input_tokens: addTokens(first.input_tokens, second.input_tokens),
    output_tokens: addTokens(first.output_tokens, second.output_tokens),
    cached_input_tokens: addTokens(first.cached_input_tokens, second.cached_input_tokens),
    cache_write_tokens: addTokens(first.cache_write_tokens, second.cache_write_tokens),
    reasoning_tokens: addTokens(first.reasoning_tokens, second.reasoning_tokens),
    estimated: first.estimated || second.estimated,
  };
}

/** Merges two reports about one attempt. The later report's counts take precedence. */
export function mergeUsageReports(earlier: ReportedUsage | null, later: ReportedUsage | null): ReportedUsage | null {
  if (!earlier || !later) return later ?? earlier;
  return {
    input_tokens: later.input_tokens ?? earlier.input_tokens,
    output_tokens: later.output_tokens ?? earlier.output_tokens,
    cached_input_tokens: later.cached_input_tokens || earlier.cached_input_tokens,
    cache_write_tokens: later.cache_write_tokens || earlier.cache_write_tokens,
    reasoning_tokens: later.reasoning_tokens || earlier.reasoning_tokens,
  };
}
