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

const add = (one: number, other: number): number => Math.min(one + other, USAGE_TOKENS_MAX);

/** Adds the tokens of two attempts or steps. */
export function addUsage(one: RunUsage | null, other: RunUsage | null): RunUsage | null {
  if (!one || !other) return one ?? other;
  return {
    input_tokens: add(one.input_tokens, other.input_tokens),
    output_tokens: add(one.output_tokens, other.output_tokens),
    cached_input_tokens: add(one.cached_input_tokens, other.cached_input_tokens),
    cache_write_tokens: add(one.cache_write_tokens, other.cache_write_tokens),
    reasoning_tokens: add(one.reasoning_tokens, other.reasoning_tokens),
    estimated: one.estimated || other.estimated,
  };
}

/** Merges two reports about one attempt. The later report's counts take precedence. */
export function mergeReports(earlier: ReportedUsage | null, later: ReportedUsage | null): ReportedUsage | null {
  if (!earlier || !later) return later ?? earlier;
  return {
    input_tokens: later.input_tokens ?? earlier.input_tokens,
    output_tokens: later.output_tokens ?? earlier.output_tokens,
    cached_input_tokens: later.cached_input_tokens || earlier.cached_input_tokens,
    cache_write_tokens: later.cache_write_tokens || earlier.cache_write_tokens,
    reasoning_tokens: later.reasoning_tokens || earlier.reasoning_tokens,
  };
}
