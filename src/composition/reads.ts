import { createPromptsTag, createReadCache, type ReadCache } from "../http/read-cache.ts";
import type { Metrics } from "../lib/metrics.ts";
import type { Bus, ConversationsMessage, UsersMessage } from "../realtime/bus.ts";

type Dependencies = { isOn: boolean; isAlone: boolean; bus: Bus; metrics: Metrics };

/**
 * The response cache and its invalidation. It is used only while this instance makes every change itself: it is alone, or the
 * bus is certain that there is no other one. Changes of another instance would arrive only after they were acknowledged.
 */
export function createReads({ isOn, isAlone, bus, metrics }: Dependencies): ReadCache {
  const reads = createReadCache({ metrics, receivesChanges: () => isOn && (isAlone || bus.isAlone()) });
  if (!isOn) return reads;
  const onGap = reads.forgetAll;
  bus.subscribe("conversations", { onMessage: (message) => takeConversation(reads, message), onGap });
  bus.subscribe("users", { onMessage: (message) => takeUser(reads, message), onGap });
  return reads;
}

function takeConversation(reads: ReadCache, message: ConversationsMessage): void {
  // When a member reads, nothing changes for the others.
  if (message.type !== "conversation.read") reads.forget(message.conversation_id);
  if ("user_ids" in message) for (const userId of message.user_ids) reads.forget(userId);
  else if (message.user_id !== undefined) reads.forget(message.user_id);
}

function takeUser(reads: ReadCache, message: UsersMessage): void {
  if (message.type === "prompts.changed") reads.forget(createPromptsTag(message.user_id));
  // Names and prompts are in responses about many conversations, and rarely change.
  else reads.forgetAll();
}
