import type { ReportedUsage } from "../provider.ts";

/*
 * Provider responses are parsed field by field. A field of the wrong type is treated as missing, so that the answer doesn't
 * fail.
 */

export { asFields, asList, asNonEmptyString, type Fields } from "../fields.ts";

/** Maximum plausible token count. Larger counts are server errors. */
const TOKENS_MAX = 100_000_000;

/** Returns a plausible token count, or null. */
export const parseTokens = (value: unknown): number | null =>
  typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= TOKENS_MAX ? value : null;

/** A provider's token counts. `input` and `output` are totals that include the other counts. */
export type UsageFields = {
  input: unknown;
  output: unknown;
  cachedInput?: unknown;
  cacheWrite?: unknown;
  reasoning?: unknown;
};

/**
 * Returns the plausible counts. A count of 0 for the prompt or the answer is treated as missing, because some servers that
 * don't count tokens send 0.
 */
export function parseReportedUsage({ input, output, cachedInput, cacheWrite, reasoning }: UsageFields): ReportedUsage {
  const inputTokens = parseTokens(input) || null;
  const outputTokens = parseTokens(output) || null;
  // Cache counts are valid even if the total is unknown.
  const cached = Math.min(parseTokens(cachedInput) ?? 0, inputTokens ?? TOKENS_MAX);
  return {
    input_tokens: inputTokens,
    output_tokens: outputTokens,
    cached_input_tokens: cached,
    cache_write_tokens: Math.min(parseTokens(cacheWrite) ?? 0, (inputTokens ?? TOKENS_MAX) - cached),
    reasoning_tokens: Math.min(parseTokens(reasoning) ?? 0, outputTokens ?? 0),
  };
}
