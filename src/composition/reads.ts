import { createPromptsTag, createReadCache, type ReadCache } from "../http/read-cache.ts";
import type { Metrics } from "../lib/metrics.ts";
import type { Bus, ConversationsMessage, UsersMessage } from "../realtime/bus.ts";

type Dependencies = { isOn: boolean; isAlone: boolean; bus: Bus; metrics: Metrics };

/**
 * Creates the response cache and its invalidation. The cache is used only if there is certainly no other instance, because
 * other instances' changes arrive here after clients have seen them.
 */
export function createReadCacheForBus({ isOn, isAlone, bus, metrics }: Dependencies): ReadCache {
  const reads = createReadCache({ metrics, isReceivingChanges: () => isOn && (isAlone || bus.isAlone()) });
  if (!isOn) return reads;
  const onGap = reads.invalidateAll;
  bus.subscribe("conversations", { onMessage: (message) => invalidateForConversation(reads, message), onGap });
  bus.subscribe("users", { onMessage: (message) => invalidateForUser(reads, message), onGap });
  return reads;
}

function invalidateForConversation(reads: ReadCache, message: ConversationsMessage): void {
  // A member's read position doesn't affect other members' responses.
  if (message.type !== "conversation.read") reads.invalidate(message.conversation_id);
  if ("user_ids" in message) for (const userId of message.user_ids) reads.invalidate(userId);
  else if (message.user_id !== undefined) reads.invalidate(message.user_id);
}

function invalidateForUser(reads: ReadCache, message: UsersMessage): void {
  if (message.type === "prompts.changed") reads.invalidate(createPromptsTag(message.user_id));
  // Names rarely change but appear in many responses, so everything is invalidated.
  else reads.invalidateAll();
}
