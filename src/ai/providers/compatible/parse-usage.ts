import type { ReportedUsage } from "../../provider.ts";
import { asFields, type Fields, parseReportedUsage, parseTokens } from "../read-fields.ts";

/** Parses the token counts of a chunk in any known server's format. Returns null if there are none. */
export function parseChatUsage(chunk: Fields, choice: Fields): ReportedUsage | null {
  const reportedUsage = chunk.usage ?? choice.usage ?? asFields(chunk.x_groq).usage;
  if (!reportedUsage) return null;
  const usage = asFields(reportedUsage);
  const promptDetails = asFields(usage.prompt_tokens_details);
  const completionDetails = asFields(usage.completion_tokens_details);
  const input = usage.prompt_tokens ?? usage.input_tokens;
  const cached = parseFirst(
    promptDetails.cached_tokens,
    usage.prompt_cache_hit_tokens,
    usage.cached_tokens,
    usage.cache_read_input_tokens,
  );
  const result = parseReportedUsage({
    input,
    ...sumOutput(usage.completion_tokens ?? usage.output_tokens, {
      reasoning: parseFirst(completionDetails.reasoning_tokens, usage.reasoning_tokens),
      input,
      cached,
      total: usage.total_tokens,
    }),
    cachedInput: cached,
    cacheWrite: parseFirst(promptDetails.cache_write_tokens, usage.cache_creation_input_tokens),
  });
  return result.input_tokens === null && result.output_tokens === null ? null : result;
}

/** Returns the first valid count. */
const parseFirst = (...counts: unknown[]): number | null =>
  counts.map(parseTokens).find((count) => count !== null) ?? null;

type ReportedCounts = { reasoning: number | null; input: unknown; cached: number | null; total: unknown };

/** Maximum plausible number of hidden reasoning tokens. A larger difference is caused by an error in the server. */
const HIDDEN_TOKENS_MAX = 300_000;

/** Adds reasoning tokens that a server counts separately from completion tokens, or only in the total. */
function sumOutput(completion: unknown, reportedCounts: ReportedCounts): { output: unknown; reasoning: unknown } {
  const { reasoning, input, cached, total } = reportedCounts;
  const completionTokens = parseTokens(completion);
  if (completionTokens === null) return { output: completion, reasoning };
  const prompt = parseTokens(input) ?? 0;
  const difference = (parseTokens(total) ?? 0) - prompt - completionTokens;
  if (reasoning) {
    const isSeparate = reasoning > completionTokens || difference === reasoning;
    return { output: isSeparate ? completionTokens + reasoning : completionTokens, reasoning };
  }
  // The difference is reasoning only if the server sends no reasoning count and the cache doesn't explain it.
  const isHidden =
    reasoning === null && prompt > 0 && completionTokens > 0 && difference > 0 && difference <= HIDDEN_TOKENS_MAX;
  if (!isHidden || (cached ?? 0) > prompt) return { output: completionTokens, reasoning };
  // The reasoning count stays null, because the difference may grow from chunk to chunk.
  return { output: completionTokens + difference, reasoning };
}
