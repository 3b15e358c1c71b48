import type { ChatMessage } from "./provider.ts";
import { countMessage, countMessageAtMost, countMessages } from "./tokens.ts";

/**
 * Drops the oldest messages until the rest fits, for a model with a smaller window than they were selected for. Keeps system
 * texts and everything from the last user message on, however long. The result starts with a user message, so that no tool
 * result loses its call.
 */
export function fitMessages(messages: readonly ChatMessage[], tokensMax: number): ChatMessage[] {
  // Most requests need no exact count.
  if (messages.reduce((sum, message) => sum + countMessageAtMost(message), 0) <= tokensMax) return [...messages];
  let tokens = countMessages(messages);
  const asked = messages.findLastIndex(({ role }) => role === "user");
  const kept = [...messages.entries()];
  const isNeeded = (index: number, { role }: ChatMessage) => role === "system" || index >= asked;
  for (let at = 0; at < kept.length; ) {
    const [index, message] = kept[at] ?? [asked, undefined];
    if (!message || index >= asked || (tokens <= tokensMax && message.role === "user")) break;
    if (isNeeded(index, message)) at += 1;
    else {
      tokens -= countMessage(message);
      kept.splice(at, 1);
    }
  }
  return kept.map(([, message]) => message);
}
