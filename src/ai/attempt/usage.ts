import type { RunUsage } from "../answer-part.ts";
import type { ProviderRequest, ReportedUsage, ToolCall } from "../provider.ts";
import { estimateOptionTokens, estimateTokens, estimateTotalTokens } from "../tokens.ts";

/** A finished attempt, as needed to count its tokens. */
export type AttemptRecord = {
  providerRequest: Pick<ProviderRequest, "messages" | "partial" | "options">;
  /** Whether the model produced text, a tool call or reasoning, even if it wasn't shown. */
  hasOutput: boolean;
  /** Returns all text of the attempt, even if it wasn't shown. Called only if its tokens have to be estimated. */
  getWrittenText(): string;
  toolCalls: readonly ToolCall[];
  /** The model's reasoning, if the provider reported it. */
  reasoning: string;
  /** The provider's latest counts. */
  reported: ReportedUsage | null;
  /** Whether the output count covers the whole answer. */
  isOutputFinal: boolean;
};

/** Returns an attempt's reported tokens and estimates the missing ones. Returns null if it costs nothing. */
export function countUsage(record: AttemptRecord): RunUsage | null {
  const { hasOutput, reported, isOutputFinal, reasoning, providerRequest } = record;
  const input = reported?.input_tokens ?? null;
  const output = reported?.output_tokens ?? null;
  // Providers don't charge for a request that failed before any output, unless they report usage.
  if (!hasOutput && input === null && output === null) return null;
  const isComplete = isOutputFinal && output !== null;
  const { cached_input_tokens = 0, cache_write_tokens = 0 } = reported ?? {};
  const inputTokens = input ?? Math.max(estimateInputTokens(providerRequest), cached_input_tokens + cache_write_tokens);
  const outputTokens = isComplete ? output : Math.max(output ?? 0, hasOutput ? estimateOutputTokens(record) : 0);
  const cached = Math.min(cached_input_tokens, inputTokens);
  return {
    input_tokens: inputTokens,
    output_tokens: outputTokens,
    cached_input_tokens: cached,
    cache_write_tokens: Math.min(cache_write_tokens, inputTokens - cached),
    reasoning_tokens: Math.min(outputTokens, reported?.reasoning_tokens || estimateTokens(reasoning)),
    estimated: input === null || (!isComplete && hasOutput),
  };
}

function estimateInputTokens({ messages, partial, options }: AttemptRecord["providerRequest"]): number {
  return estimateTotalTokens(messages) + estimateTokens(partial ?? "") + estimateOptionTokens(options);
}

function estimateOutputTokens({ getWrittenText, toolCalls, reasoning }: AttemptRecord): number {
  const toolCallTokens = toolCalls.reduce((sum, call) => sum + estimateTokens(call.name + call.arguments), 0);
  return estimateTokens(getWrittenText()) + estimateTokens(reasoning) + toolCallTokens;
}
