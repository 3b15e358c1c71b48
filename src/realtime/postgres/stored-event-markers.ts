import { durableEvents } from "../../protocol/events.ts";
import type { AnyBusMessage } from "../instances/transport.ts";

type Item = AnyBusMessage & { conversation_id?: string; seq?: number; data?: MessageData };
type MessageData = { content?: unknown; reasoning?: unknown; output?: unknown; metadata?: object };

/**
 * Events that are always sent in full. Membership changes must take effect immediately. After a conversation is erased, it has no log from
 * which its deletion could be read.
 */
const neverReplacedTypes = new Set(["member.added", "member.removed", "conversation.deleted"]);
const replaceableTypes = new Set(Object.keys(durableEvents).filter((type) => !neverReplacedTypes.has(type)));
/** Maximum length of messages that NOTIFY sends whole, in UTF-16 code units. Reading these from the database would cost more. */
const SHORT_MESSAGE_CHARS_MAX = 1_000;

const isReplaceable = (item: Item): boolean => replaceableTypes.has(item.type) && !isShortMessage(item);

/** Returns whether a message is short. Apart from the text, only an answer's metadata and output can be long. */
function isShortMessage({ type, data }: Item): boolean {
  if (!type.startsWith("message.") || typeof data?.content !== "string" || (data.output ?? null) !== null) return false;
  const chars = data.content.length + (typeof data.reasoning === "string" ? data.reasoning.length : 0);
  return chars <= SHORT_MESSAGE_CHARS_MAX && Object.keys(data.metadata ?? {}).length === 0;
}

/**
 * Replaces a conversation's stored events, except short messages, with one `events.stored` in place of the first. The receiver
 * reads the events before it processes later messages.
 */
export function replaceStoredEvents(conversationId: string, messages: AnyBusMessage[]): AnyBusMessage[] {
  const lastSeq = messages.reduce(
    (last, item: Item) => (isReplaceable(item) ? Math.max(last, item.seq ?? 0) : last),
    0,
  );
  if (lastSeq === 0) return messages;
  const marker = { type: "events.stored", conversation_id: conversationId, seq: lastSeq };
  const firstIndex = messages.findIndex(isReplaceable);
  return messages.flatMap((item, index) => (isReplaceable(item) ? (index === firstIndex ? [marker] : []) : [item]));
}
