import type { ReportedUsage } from "../../provider.ts";
import { type Fields, readFields, readReportedUsage, readTokens } from "../read-fields.ts";

/** Reads the tokens that a chunk reports, in the formats of all known servers; null if it reports none. */
export function readChatUsage(chunk: Fields, choice: Fields): ReportedUsage | null {
  const stated = chunk.usage ?? choice.usage ?? readFields(chunk.x_groq).usage;
  if (!stated) return null;
  const usage = readFields(stated);
  const promptDetails = readFields(usage.prompt_tokens_details);
  const completionDetails = readFields(usage.completion_tokens_details);
  const input = usage.prompt_tokens ?? usage.input_tokens;
  const cached = readFirst(
    promptDetails.cached_tokens,
    usage.prompt_cache_hit_tokens,
    usage.cached_tokens,
    usage.cache_read_input_tokens,
  );
  const read = readReportedUsage({
    input,
    ...readOutput(usage.completion_tokens ?? usage.output_tokens, {
      reasoning: readFirst(completionDetails.reasoning_tokens, usage.reasoning_tokens),
      input,
      cached,
      total: usage.total_tokens,
    }),
    cachedInput: cached,
    cacheWrite: readFirst(promptDetails.cache_write_tokens, usage.cache_creation_input_tokens),
  });
  return read.input_tokens === null && read.output_tokens === null ? null : read;
}

/** The first valid count. */
const readFirst = (...counts: unknown[]): number | null =>
  counts.map(readTokens).find((count) => count !== null) ?? null;

type Stated = { reasoning: number | null; input: unknown; cached: number | null; total: unknown };

/** More tokens than any model uses for reasoning; a larger difference is an error. */
const HIDDEN_TOKENS_MAX = 300_000;

/** Some servers don't count reasoning as completion tokens, or count it only in the total, which reveals it. */
function readOutput(completion: unknown, stated: Stated): { output: unknown; reasoning: unknown } {
  const { reasoning, input, cached, total } = stated;
  const written = readTokens(completion);
  if (written === null) return { output: completion, reasoning };
  const prompt = readTokens(input) ?? 0;
  const difference = (readTokens(total) ?? 0) - prompt - written;
  if (reasoning) {
    const isSeparate = reasoning > written || difference === reasoning;
    return { output: isSeparate ? written + reasoning : written, reasoning };
  }
  // Only if all three are counted, no reasoning count is given, and the cache doesn't explain the total.
  const isHidden = reasoning === null && prompt > 0 && written > 0 && difference > 0 && difference <= HIDDEN_TOKENS_MAX;
  if (!isHidden || (cached ?? 0) > prompt) return { output: written, reasoning };
  // The reasoning count stays unknown: such counts may grow from chunk to chunk.
  return { output: written + difference, reasoning };
}
