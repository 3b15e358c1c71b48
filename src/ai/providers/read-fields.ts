import type { ReportedUsage } from "../provider.ts";

/*
 * Provider responses are read field by field, whatever their declared types: a field of a wrong type counts as
 * absent, and never fails an answer that has text.
 */

export { type Fields, readFields, readList, readText } from "../fields.ts";

/** More tokens than any request has; a larger number is an error. */
const TOKENS_MAX = 100_000_000;

/** A valid token count, or null. */
export const readTokens = (value: unknown): number | null =>
  typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= TOKENS_MAX ? value : null;

/** Counts under the provider's names. `input` and `output` are totals that include the others. */
export type UsageFields = {
  input: unknown;
  output: unknown;
  cachedInput?: unknown;
  cacheWrite?: unknown;
  reasoning?: unknown;
};

/**
 * Returns the plausible counts. Servers that don't count report 0 for the prompt or for an answer with text; that counts as
 * missing.
 */
export function readReportedUsage({ input, output, cachedInput, cacheWrite, reasoning }: UsageFields): ReportedUsage {
  const inputTokens = readTokens(input) || null;
  const outputTokens = readTokens(output) || null;
  // The parts of the prompt are valid even if the total is unknown.
  const cached = Math.min(readTokens(cachedInput) ?? 0, inputTokens ?? TOKENS_MAX);
  return {
    input_tokens: inputTokens,
    output_tokens: outputTokens,
    cached_input_tokens: cached,
    cache_write_tokens: Math.min(readTokens(cacheWrite) ?? 0, (inputTokens ?? TOKENS_MAX) - cached),
    reasoning_tokens: Math.min(readTokens(reasoning) ?? 0, outputTokens ?? 0),
  };
}
