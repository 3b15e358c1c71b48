import { durableEvents } from "../../protocol/events.ts";
import type { BusItem } from "../instances/transport.ts";

type Item = BusItem & { conversation_id?: string; seq?: number; data?: Shown };
type Shown = { content?: unknown; reasoning?: unknown; output?: unknown; metadata?: object };

/** They take effect at once, and nobody can read the log of a conversation that is being erased. */
const wholeEvents = new Set(["member.added", "member.removed", "conversation.deleted"]);
const storedTypes = new Set(Object.keys(durableEvents).filter((type) => !wholeEvents.has(type)));
/** UTF-16 units of a message that goes whole: to read it again would cost the database and the receiver more than its bytes. */
const WHOLE_CHARS_MAX = 1_000;

const isStored = (item: Item): boolean => storedTypes.has(item.type) && !isShortMessage(item);

/** What else a message holds is short, but for the metadata and the output of an answer. */
function isShortMessage({ type, data }: Item): boolean {
  if (!type.startsWith("message.") || typeof data?.content !== "string" || (data.output ?? null) !== null) return false;
  const chars = data.content.length + (typeof data.reasoning === "string" ? data.reasoning.length : 0);
  return chars <= WHOLE_CHARS_MAX && Object.keys(data.metadata ?? {}).length === 0;
}

/**
 * Leaves out what is in the database, but for short messages: events of a conversation become one `events.stored`, in the place
 * of the first of them. Messages after it wait at the receiver until the events are read.
 */
export function replaceStored(conversationId: string, messages: BusItem[]): BusItem[] {
  const lastSeq = messages.reduce((last, item: Item) => (isStored(item) ? Math.max(last, item.seq ?? 0) : last), 0);
  if (lastSeq === 0) return messages;
  const marker = { type: "events.stored", conversation_id: conversationId, seq: lastSeq };
  const first = messages.findIndex(isStored);
  return messages.flatMap((item, index) => (isStored(item) ? (index === first ? [marker] : []) : [item]));
}
