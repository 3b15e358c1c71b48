import type { Database } from "../../db/client.ts";
import type { Caller } from "../../http/authenticate.ts";
import type { DurableEvent } from "../../realtime/frames.ts";
import type { MemberRole } from "../../realtime/hub.ts";
import { type ConversationService, createEvent } from "../conversations/service.ts";
import type { Message, SentMessage } from "./model.ts";
import { findCompletion, findMessageById, listEvents, mapToMessage, type Slice } from "./queries.ts";

/** Events of one recovery; who has missed more, or more text than fits, reads the history anew. */
export const RECOVERY_EVENTS_MAX = 500;

export type StartPosition = {
  role: MemberRole;
  lastSeq: number;
  recovered: boolean;
  events: DurableEvent[];
};

/** The durable events of conversations, read back from what is stored. */
export function createEventLog(database: Database, conversations: ConversationService) {
  /** Events after `afterSeq` up to `untilSeq`, in order, at most `limit`. For callers whose access is checked. */
  async function list(
    conversationId: string,
    afterSeq: number,
    untilSeq: number,
    limit: number,
  ): Promise<Slice<DurableEvent>> {
    const { rows, fitting } = await listEvents(database, conversationId, afterSeq, untilSeq, limit);
    if (!rows.some((event) => event.type === "conversation.updated")) return { rows, fitting };
    // What a change replays is the conversation as it is now.
    const data = await conversations.getShared(conversationId);
    return { rows: rows.map((event) => (event.type === "conversation.updated" ? { ...event, data } : event)), fitting };
  }

  /** The same, without those that are too much for one read: they come with the next one. */
  async function load(
    conversationId: string,
    afterSeq: number,
    untilSeq: number,
    limit: number,
  ): Promise<DurableEvent[]> {
    const { rows, fitting } = await list(conversationId, afterSeq, untilSeq, limit);
    return rows.slice(0, fitting);
  }

  return {
    list,
    load,

    /**
     * Where a member's pushes start, with all that they missed since `afterSeq`, or nothing of it: never a part.
     * @throws Problem `not_found` for an outsider.
     */
    async start(caller: Caller, conversationId: string, afterSeq: number | undefined): Promise<StartPosition> {
      const position = await conversations.getPosition(caller, conversationId);
      const missed = position.lastSeq - (afterSeq ?? Number.NaN);
      if (afterSeq === undefined || !(missed >= 0 && missed <= RECOVERY_EVENTS_MAX))
        return { ...position, recovered: false, events: [] };
      const events = missed === 0 ? [] : await load(conversationId, afterSeq, position.lastSeq, RECOVERY_EVENTS_MAX);
      // So much text that it did not fit: a client could not take it in at once.
      if (events.length < missed) return { ...position, recovered: false, events: [] };
      return { ...position, recovered: true, events };
    },

    /** Message and answer as they are now. For callers whose access is checked. */
    async reread({ message, reply }: SentMessage): Promise<SentMessage> {
      const read = async (known: Message) => {
        const row = await findMessageById(database, known.id);
        return row ? mapToMessage(row) : known;
      };
      return { message: await read(message), reply: reply && (await read(reply)) };
    },

    /** The stored end of an answer; null while it is being written. For callers whose access is checked. */
    async findCompletion(answer: Message): Promise<DurableEvent | null> {
      const stored = await findCompletion(database, answer);
      return stored ? createEvent("message.completed", answer.conversation_id, stored, answer) : null;
    },
  };
}

export type EventLog = ReturnType<typeof createEventLog>;
