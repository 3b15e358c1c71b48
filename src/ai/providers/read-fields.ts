import type { ReportedUsage } from "../provider.ts";

/*
 * What providers send is read field by field, whatever their types are said to be: a field of a wrong type counts as
 * absent, and never fails an answer that has text.
 */

export { type Fields, readFields, readList, readText } from "../fields.ts";

/** More tokens than any request has; a number above is a mistake. */
const TOKENS_MAX = 100_000_000;

/** A count of tokens, or null for what cannot be one. */
export const readTokens = (value: unknown): number | null =>
  typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= TOKENS_MAX ? value : null;

/** Counts as a provider names them. `input` and `output` are of everything, also of what the others name. */
export type UsageFields = {
  input: unknown;
  output: unknown;
  cachedInput?: unknown;
  cacheWrite?: unknown;
  reasoning?: unknown;
};

/**
 * The counts that can be right. Servers that do not count say 0 for the prompt or for an answer that has text; that is the
 * same as nothing.
 */
export function readReportedUsage({ input, output, cachedInput, cacheWrite, reasoning }: UsageFields): ReportedUsage {
  const inputTokens = readTokens(input) || null;
  const outputTokens = readTokens(output) || null;
  // What is known of the prompt's parts holds also where the whole is not known.
  const cached = Math.min(readTokens(cachedInput) ?? 0, inputTokens ?? TOKENS_MAX);
  return {
    input_tokens: inputTokens,
    output_tokens: outputTokens,
    cached_input_tokens: cached,
    cache_write_tokens: Math.min(readTokens(cacheWrite) ?? 0, (inputTokens ?? TOKENS_MAX) - cached),
    reasoning_tokens: Math.min(readTokens(reasoning) ?? 0, outputTokens ?? 0),
  };
}
