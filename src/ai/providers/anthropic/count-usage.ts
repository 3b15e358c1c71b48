import type { ReportedUsage } from "../../provider.ts";
import { readFields, readReportedUsage, readTokens } from "../read-fields.ts";

const names = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"] as const;

/**
 * Counts the tokens of one answer. Anthropic reports them at the start and, cumulatively, at the end. Compatible servers may
 * report 0 or nothing at the start, and omit fields at the end. The last plausible value of each count wins. Anthropic's
 * `input_tokens` excludes cached tokens; Parley's includes them.
 */
export function createUsageCount() {
  const counts: Partial<Record<(typeof names)[number], number>> = {};
  let thinkingTokens = 0;

  return {
    /** Reads the `usage` of an event. */
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
