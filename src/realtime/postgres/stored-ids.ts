import { durableEvents } from "../../protocol/events.ts";
import type { BusItem } from "../instances/transport.ts";

type Item = BusItem & { conversation_id?: string; seq?: number; data?: MessageData };
type MessageData = { content?: unknown; reasoning?: unknown; output?: unknown; metadata?: object };

/** Events that are always sent in full. They take effect immediately, and a conversation that is being erased has no log to read. */
const unreplacedEvents = new Set(["member.added", "member.removed", "conversation.deleted"]);
const storedTypes = new Set(Object.keys(durableEvents).filter((type) => !unreplacedEvents.has(type)));
/**
 * In UTF-16 units. Messages of at most this length are sent in full, because reading one from the database would cost more than
 * sending it.
 */
const SHORT_MESSAGE_CHARS_MAX = 1_000;

const isStored = (item: Item): boolean => storedTypes.has(item.type) && !isShortMessage(item);

/** Whether a message is short. Besides the text, only an answer's metadata and output can be long. */
function isShortMessage({ type, data }: Item): boolean {
  if (!type.startsWith("message.") || typeof data?.content !== "string" || (data.output ?? null) !== null) return false;
  const chars = data.content.length + (typeof data.reasoning === "string" ? data.reasoning.length : 0);
  return chars <= SHORT_MESSAGE_CHARS_MAX && Object.keys(data.metadata ?? {}).length === 0;
}

/**
 * Replaces the stored events of a conversation, except short messages, with a single `events.stored` in place of the first one.
 * The receiver holds back later messages until it has read the events.
 */
export function replaceStored(conversationId: string, messages: BusItem[]): BusItem[] {
  const lastSeq = messages.reduce((last, item: Item) => (isStored(item) ? Math.max(last, item.seq ?? 0) : last), 0);
  if (lastSeq === 0) return messages;
  const marker = { type: "events.stored", conversation_id: conversationId, seq: lastSeq };
  const first = messages.findIndex(isStored);
  return messages.flatMap((item, index) => (isStored(item) ? (index === first ? [marker] : []) : [item]));
}
