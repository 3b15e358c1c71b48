import type { ReportedUsage } from "../../provider.ts";
import { readFields, readReportedUsage, readTokens } from "../read-fields.ts";

const names = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"] as const;

/**
 * The tokens of one answer. Anthropic counts them at the beginning and again, cumulatively, at the end; servers that speak
 * its protocol may say 0 or nothing at the beginning, and leave fields out at the end. The last
 * plausible value of each count stays. Tokens read from the cache or written to it are apart from `input_tokens` there; ours
 * include them.
 */
export function createUsageCount() {
  const counts: Partial<Record<(typeof names)[number], number>> = {};
  let thinkingTokens = 0;

  return {
    /** Takes the `usage` of an event. */
    take(value: unknown): void {
      const usage = readFields(value);
      for (const name of names) {
        const tokens = readTokens(usage[name]);
        if (tokens !== null) counts[name] = tokens || (counts[name] ?? 0);
      }
      thinkingTokens = readTokens(readFields(usage.output_tokens_details).thinking_tokens) || thinkingTokens;
    },
    /** Null while nothing is counted. */
    read(): ReportedUsage | null {
      const { input_tokens, output_tokens, cache_read_input_tokens = 0, cache_creation_input_tokens = 0 } = counts;
      const isInputKnown = input_tokens !== undefined;
      const usage = readReportedUsage({
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
