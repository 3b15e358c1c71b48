import type { ReportedUsage } from "../../provider.ts";
import { asFields, parseReportedUsage, parseTokens } from "../read-fields.ts";

const countNames = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"] as const;

/**
 * Creates a counter for the tokens of one answer. Anthropic reports token counts at the start and cumulative counts at the end.
 * Compatible servers may report 0 or nothing at the start, and omit fields at the end, so the last plausible value of each
 * count is used. Anthropic's `input_tokens` excludes cached tokens; Parley's includes them.
 */
export function createUsageCounter() {
  const counts: Partial<Record<(typeof countNames)[number], number>> = {};
  let thinkingTokens = 0;

  return {
    /** Adds the `usage` of an event. */
    add(value: unknown): void {
      const usage = asFields(value);
      for (const name of countNames) {
        const tokens = parseTokens(usage[name]);
        if (tokens !== null) counts[name] = tokens || (counts[name] ?? 0);
      }
      thinkingTokens = parseTokens(asFields(usage.output_tokens_details).thinking_tokens) || thinkingTokens;
    },
    /** Returns the counts, or null if there are none. */
    getUsage(): ReportedUsage | null {
      const { input_tokens, output_tokens, cache_read_input_tokens = 0, cache_creation_input_tokens = 0 } = counts;
      const isInputKnown = input_tokens !== undefined;
      const usage = parseReportedUsage({
        input: isInputKnown ? input_tokens + cache_read_input_tokens + cache_creation_input_tokens : null,
        output: output_tokens,
        cachedInput: cache_read_input_tokens,
        cacheWrite: cache_creation_input_tokens,
        reasoning: thinkingTokens,
      });
      return usage.input_tokens === null && usage.output_tokens === null ? null : usage;
    },
  };
}
