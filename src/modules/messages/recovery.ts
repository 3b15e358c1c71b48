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
  /** The `seq` of the newest event that the listener has received. Absent if unknown. */
  receivedSeq?: number;
  recovered: boolean;
  events: DurableEvent[];
};

type Dependencies = {
  database: Database;
  conversations: Pick<ConversationService, "getPosition">;
  events: Pick<EventLog, "load">;
};

/** Creates functions that determine where a listener starts, and which events it has missed. */
export function createRecovery({ database, conversations, events: eventLog }: Dependencies) {
  return {
    /**
     * Returns the position at which a member's pushes start, with all events missed since `afterSeq`, or with none if there are
     * too many.
     * @throws Problem `not_found` for an outsider.
     */
    async getStartPosition(
      caller: Caller,
      conversationId: string,
      afterSeq: number | undefined,
    ): Promise<StartPosition> {
      const position = await conversations.getPosition(caller, conversationId);
      const missedCount = position.lastSeq - (afterSeq ?? Number.NaN);
      const receivedSeq = Math.min(afterSeq ?? 0, position.lastSeq);
      if (afterSeq === undefined || !(missedCount >= 0 && missedCount <= RECOVERY_EVENTS_MAX))
        return { ...position, receivedSeq, recovered: false, events: [] };
      const events =
        missedCount === 0 ? [] : await eventLog.load(conversationId, afterSeq, position.lastSeq, RECOVERY_EVENTS_MAX);
      // Fewer events are loaded if they exceed the size limit of a recovery.
      if (events.length < missedCount) return { ...position, receivedSeq, recovered: false, events: [] };
      return { ...position, receivedSeq, recovered: true, events };
    },

    /** Reads the current state of a message and its answer. Doesn't check access. */
    async reload({ message, reply }: SentMessage): Promise<SentMessage> {
      const readCurrent = async (previous: Message) => {
        const row = await findMessageById(database, previous.conversation_id, previous.id);
        return row ? mapRowToMessage(row) : previous;
      };
      return { message: await readCurrent(message), reply: reply && (await readCurrent(reply)) };
    },
  };
}

export type Recovery = ReturnType<typeof createRecovery>;

/**
 * Combines the events of a start position, up to `lastSeq`, with events missed later. Each event contains the newest state of its
 * message.
 */
export function mergeEvents(position: StartPosition, lastSeq: number, missedEvents: DurableEvent[]): DurableEvent[] {
  const newestById = new Map(missedEvents.filter(isMessageEvent).map(({ data }) => [data.id, data]));
  return [...position.events.filter((event) => event.seq <= lastSeq), ...missedEvents].map((event) => {
    const data = isMessageEvent(event) ? newestById.get(event.data.id) : undefined;
    return data ? ({ ...event, data } as DurableEvent) : event;
  });
}
