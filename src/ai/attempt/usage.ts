import type { RunUsage } from "../answer-part.ts";
import type { ChatMessage, ToolCall, Usage } from "../provider.ts";
import { countMessages, estimateTokens } from "../tokens.ts";

/** What is known of an attempt when it has ended. */
export type AttemptRecord = {
  messages: readonly ChatMessage[];
  /** Whether the model wrote any text. */
  hasText: boolean;
  /** All of that text, shown or not; asked for only where tokens have to be estimated. */
  readWritten(): string;
  toolCalls: readonly ToolCall[];
  /** The last count that the provider gave. */
  reported: Usage | null;
  /** Whether that count is the final one. */
  isFinal: boolean;
};

/** The tokens of an attempt, as reported, or estimated where it broke off. Null: it costs nothing. */
export function countUsage({
  messages,
  hasText,
  readWritten,
  toolCalls,
  reported,
  isFinal,
}: AttemptRecord): RunUsage | null {
  if (reported && isFinal) return { ...reported, estimated: false };
  // A request that failed before the first character is not charged by the providers, unless they said so.
  if (!hasText && toolCalls.length === 0) return reported && { ...reported, estimated: false };
  const calls = toolCalls.reduce((sum, call) => sum + estimateTokens(call.name + call.arguments), 0);
  return {
    input_tokens: reported?.input_tokens || countMessages(messages),
    output_tokens: Math.max(reported?.output_tokens ?? 0, estimateTokens(readWritten()) + calls),
    estimated: true,
  };
}
