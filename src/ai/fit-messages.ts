import type { ChatMessage } from "./provider.ts";
import { countMessage, countMessages, countMessageUpperBound } from "./tokens.ts";

/**
 * Leaves the oldest messages out until the others fit, for a model with a smaller window than the one they were chosen
 * for. System texts stay, and everything from the last message of a user on, however long it is; what is left begins
 * with a user, so that no tool's result loses its call.
 * @param questionIndex where the question is, if a later message of a user is none.
 */
export function fitMessages(
  messages: readonly ChatMessage[],
  tokensMax: number,
  questionIndex = messages.findLastIndex(({ role }) => role === "user"),
): ChatMessage[] {
  // Most requests need no exact count.
  if (messages.reduce((sum, message) => sum + countMessageUpperBound(message), 0) <= tokensMax) return [...messages];
  let tokens = countMessages(messages);
  const kept = [...messages.entries()];
  const isNeeded = (index: number, { role }: ChatMessage) => role === "system" || index >= questionIndex;
  for (let at = 0; at < kept.length; ) {
    const [index, message] = kept[at] ?? [questionIndex, undefined];
    if (!message || index >= questionIndex || (tokens <= tokensMax && message.role === "user")) break;
    if (isNeeded(index, message)) at += 1;
    else {
      tokens -= countMessage(message);
      kept.splice(at, 1);
    }
  }
  return kept.map(([, message]) => message);
}
