import type { Caller } from "../../access/caller.ts";
import type { Database } from "../../db/client.ts";
import type { EventLog } from "../../events/log.ts";
import type { MemberRole } from "../../protocol/conversation.ts";
import { type DurableEvent, isMessageEvent } from "../../protocol/events.ts";
import { RECOVERY_EVENTS_MAX } from "../../protocol/limits.ts";
import { type Message, mapRowToMessage } from "../../protocol/message.ts";
import type { ConversationService } from "../conversations/service.ts";
import type { SentMessage } from "./model.ts";
import { findMessageById } from "./queries.ts";

export type StartPosition = {
  role: MemberRole;
  lastSeq: number;
  /** The newest event that the listener has received; absent if unknown. */
  receivedSeq?: number;
  recovered: boolean;
  events: DurableEvent[];
};

type Dependencies = {
  database: Database;
  conversations: Pick<ConversationService, "getPosition">;
  events: Pick<EventLog, "load">;
};

/** Determines the position where a listener starts, and the events it missed. */
export function createRecovery({ database, conversations, events: log }: Dependencies) {
  return {
    /**
     * Returns the position where a member's pushes start, with either all events missed since `afterSeq` or none.
     * @throws Problem `not_found` for an outsider.
     */
    async start(caller: Caller, conversationId: string, afterSeq: number | undefined): Promise<StartPosition> {
      const position = await conversations.getPosition(caller, conversationId);
      const missed = position.lastSeq - (afterSeq ?? Number.NaN);
      const receivedSeq = Math.min(afterSeq ?? 0, position.lastSeq);
      if (afterSeq === undefined || !(missed >= 0 && missed <= RECOVERY_EVENTS_MAX))
        return { ...position, receivedSeq, recovered: false, events: [] };
      const events =
        missed === 0 ? [] : await log.load(conversationId, afterSeq, position.lastSeq, RECOVERY_EVENTS_MAX);
      // Not all events fit in the limit on text: too much for a client to process in one recovery.
      if (events.length < missed) return { ...position, receivedSeq, recovered: false, events: [] };
      return { ...position, receivedSeq, recovered: true, events };
    },

    /** Reads the current state of a message and its answer. Access must already be checked. */
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
 * Combines the missed events up to the position where pushes continue. Each event has its message's current state, even
 * if that changed after the events were read.
 */
export function collectEvents(position: StartPosition, lastSeq: number, missed: DurableEvent[]): DurableEvent[] {
  const newest = new Map(missed.filter(isMessageEvent).map(({ data }) => [data.id, data]));
  return [...position.events.filter((event) => event.seq <= lastSeq), ...missed].map((event) => {
    const data = isMessageEvent(event) ? newest.get(event.data.id) : undefined;
    return data ? ({ ...event, data } as DurableEvent) : event;
  });
}
