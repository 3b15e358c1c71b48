import { createPromptsTag, createReadCache, type ReadCache } from "../http/read-cache.ts";
import type { Metrics } from "../lib/metrics.ts";
import type { Bus, ConversationsMessage, UsersMessage } from "../realtime/bus.ts";

type Dependencies = { isOn: boolean; isAlone: boolean; bus: Bus; metrics: Metrics };

/**
 * The responses to frequent reads, and what makes them forgotten. They are used only while this instance makes every change
 * itself: it is alone, or the bus is certain that there is no other one. Another one's changes would be told a moment after they are
 * acknowledged.
 */
export function createReads({ isOn, isAlone, bus, metrics }: Dependencies): ReadCache {
  const reads = createReadCache({ metrics, isTold: () => isOn && (isAlone || bus.isAlone()) });
  if (!isOn) return reads;
  const onGap = reads.forgetAll;
  bus.subscribe("conversations", { onMessage: (message) => takeConversation(reads, message), onGap });
  bus.subscribe("users", { onMessage: (message) => takeUser(reads, message), onGap });
  return reads;
}

function takeConversation(reads: ReadCache, message: ConversationsMessage): void {
  // What others see of the conversation stays the same when a member reads.
  if (message.type !== "conversation.read") reads.forget(message.conversation_id);
  if ("user_ids" in message) for (const userId of message.user_ids) reads.forget(userId);
  else if (message.user_id !== undefined) reads.forget(message.user_id);
}

function takeUser(reads: ReadCache, message: UsersMessage): void {
  if (message.type === "prompts.changed") reads.forget(createPromptsTag(message.user_id));
  // Names and prompts are in responses about many conversations, and seldom change.
  else reads.forgetAll();
}
