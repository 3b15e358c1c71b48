import type { ChatMessage } from "./provider.ts";
import { estimateMessageTokens, estimateTotalTokens, getMessageTokensUpperBound } from "./tokens.ts";

/**
 * Drops the oldest messages until the others fit into `tokensMax`. System messages, the question and all later messages are
 * kept even if they don't fit. The first remaining message that isn't a system message is a user's, so that no tool result
 * loses its call.
 * @param questionIndex the index of the question, if it isn't the last user message.
 */
export function fitMessages(
  messages: readonly ChatMessage[],
  tokensMax: number,
  questionIndex = messages.findLastIndex(({ role }) => role === "user"),
): ChatMessage[] {
  // The upper bound is cheap to compute and sufficient for most requests.
  if (messages.reduce((sum, message) => sum + getMessageTokensUpperBound(message), 0) <= tokensMax)
    return [...messages];
  let tokens = estimateTotalTokens(messages);
  const remainingMessages = [...messages.entries()];
  const isNeeded = (index: number, { role }: ChatMessage) => role === "system" || index >= questionIndex;
  for (let position = 0; position < remainingMessages.length; ) {
    const [index, message] = remainingMessages[position] ?? [questionIndex, undefined];
    if (!message || index >= questionIndex || (tokens <= tokensMax && message.role === "user")) break;
    if (isNeeded(index, message)) position += 1;
    else {
      tokens -= estimateMessageTokens(message);
      remainingMessages.splice(position, 1);
    }
  }
  return remainingMessages.map(([, message]) => message);
}
