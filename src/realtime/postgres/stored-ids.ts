import { durableEvents } from "../../protocol/events.ts";
import type { BusItem } from "../instances/transport.ts";

type Item = BusItem & { conversation_id?: string; seq?: number; data?: MessageData };
type MessageData = { content?: unknown; reasoning?: unknown; output?: unknown; metadata?: object };

/** Always sent in full: they take effect immediately, and the log of a conversation being erased can't be read. */
const unreplacedEvents = new Set(["member.added", "member.removed", "conversation.deleted"]);
const storedTypes = new Set(Object.keys(durableEvents).filter((type) => !unreplacedEvents.has(type)));
/**
 * UTF-16 units. Shorter messages are sent in full: reading one again would cost the database and the receiver more than
 * sending its bytes.
 */
const SHORT_MESSAGE_CHARS_MAX = 1_000;

const isStored = (item: Item): boolean => storedTypes.has(item.type) && !isShortMessage(item);

/** The other fields of a message are short, except an answer's metadata and output. */
function isShortMessage({ type, data }: Item): boolean {
  if (!type.startsWith("message.") || typeof data?.content !== "string" || (data.output ?? null) !== null) return false;
  const chars = data.content.length + (typeof data.reasoning === "string" ? data.reasoning.length : 0);
  return chars <= SHORT_MESSAGE_CHARS_MAX && Object.keys(data.metadata ?? {}).length === 0;
}

/**
 * Leaves out what is in the database, except short messages: events of a conversation become one `events.stored`, in the
 * place of the first. Later messages wait at the receiver until the events are read.
 */
export function replaceStored(conversationId: string, messages: BusItem[]): BusItem[] {
  const lastSeq = messages.reduce((last, item: Item) => (isStored(item) ? Math.max(last, item.seq ?? 0) : last), 0);
  if (lastSeq === 0) return messages;
  const marker = { type: "events.stored", conversation_id: conversationId, seq: lastSeq };
  const first = messages.findIndex(isStored);
  return messages.flatMap((item, index) => (isStored(item) ? (index === first ? [marker] : []) : [item]));
}
