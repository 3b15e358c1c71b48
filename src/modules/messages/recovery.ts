import type { Caller } from "../../access/caller.ts";
import type { Database } from "../../db/client.ts";
import type { EventLog } from "../../events/log.ts";
import type { MemberRole } from "../../protocol/conversation.ts";
import { type DurableEvent, isMessageEvent } from "../../protocol/events.ts";
import { type Message, mapRowToMessage } from "../../protocol/message.ts";
import type { ConversationService } from "../conversations/service.ts";
import type { SentMessage } from "./model.ts";
import { findMessageById } from "./queries.ts";

/** Events of one recovery. A client that missed more events, or more text than fits, reads the history again. */
export const RECOVERY_EVENTS_MAX = 500;

export type StartPosition = {
  role: MemberRole;
  lastSeq: number;
  /** The newest event that the listener has; absent: none is known. */
  hasSeq?: number;
  recovered: boolean;
  events: DurableEvent[];
};

type Dependencies = {
  database: Database;
  conversations: Pick<ConversationService, "getPosition">;
  events: Pick<EventLog, "load">;
};

/** Where a listener starts, and what it has missed. */
export function createRecovery({ database, conversations, events: log }: Dependencies) {
  return {
    /**
     * Where a member's pushes start, with all that they missed since `afterSeq`, or nothing of it: never a part.
     * @throws Problem `not_found` for an outsider.
     */
    async start(caller: Caller, conversationId: string, afterSeq: number | undefined): Promise<StartPosition> {
      const position = await conversations.getPosition(caller, conversationId);
      const missed = position.lastSeq - (afterSeq ?? Number.NaN);
      const hasSeq = Math.min(afterSeq ?? 0, position.lastSeq);
      if (afterSeq === undefined || !(missed >= 0 && missed <= RECOVERY_EVENTS_MAX))
        return { ...position, hasSeq, recovered: false, events: [] };
      const events =
        missed === 0 ? [] : await log.load(conversationId, afterSeq, position.lastSeq, RECOVERY_EVENTS_MAX);
      // So much text that it did not fit: a client could not take it in at once.
      if (events.length < missed) return { ...position, hasSeq, recovered: false, events: [] };
      return { ...position, hasSeq, recovered: true, events };
    },

    /** Message and answer as they are now. For callers whose access is checked. */
    async reread({ message, reply }: SentMessage): Promise<SentMessage> {
      const read = async (known: Message) => {
        const row = await findMessageById(database, known.conversation_id, known.id);
        return row ? mapRowToMessage(row) : known;
      };
      return { message: await read(message), reply: reply && (await read(reply)) };
    },
  };
}

export type Recovery = ReturnType<typeof createRecovery>;

/**
 * The missed events up to the position from which pushes go on. What an event says of a message is its state now, also
 * when it changed since the events were read.
 */
export function collectEvents(position: StartPosition, lastSeq: number, missed: DurableEvent[]): DurableEvent[] {
  const newest = new Map(missed.filter(isMessageEvent).map(({ data }) => [data.id, data]));
  return [...position.events.filter((event) => event.seq <= lastSeq), ...missed].map((event) => {
    const data = isMessageEvent(event) ? newest.get(event.data.id) : undefined;
    return data ? ({ ...event, data } as DurableEvent) : event;
  });
}
