import type { Changes } from "../db/changes.ts";
import type { Database, Sql } from "../db/client.ts";
import {
  createEvent,
  type DurableEvent,
  type DurableEventType,
  type EventData,
  type EventPosition,
} from "../protocol/events.ts";
import type { Message } from "../protocol/message.ts";
import type { Bus } from "../realtime/bus.ts";
import { allocateSeq, appendEvent } from "./append.ts";
import { mapEventToChange } from "./map-event-to-change.ts";
import { findCompletion, listEvents, loadEvents } from "./read.ts";
import type { Slice } from "./slice.ts";

/** A transaction that appends events. */
export type EventTransaction = {
  readonly sql: Sql;
  /**
   * Appends an event under the conversation's next number, and publishes it after the commit.
   * @param change writes the change and returns the event's data; it receives the number and the time.
   * @throws Problem `not_found` when the conversation is gone; whatever `change` throws.
   */
  append<T extends DurableEventType>(
    type: T,
    conversationId: string,
    change: (position: EventPosition) => Promise<EventData<T>> | EventData<T>,
  ): Promise<EventData<T>>;
  /** Publishes an event that an earlier attempt appended: its commit got no response, so it may be unpublished. */
  publishAgain<T extends DurableEventType>(
    type: T,
    conversationId: string,
    position: EventPosition,
    data: EventData<T>,
  ): void;
};

/**
 * The log of each conversation: every durable event, numbered without gaps. Every change of a conversation appends its event
 * here; no other code takes numbers or pushes events. Events are pushed after their commit, never before.
 */
export function createEventLog({ database, changes, bus }: { database: Database; changes: Changes; bus: Bus }) {
  let onAppended = () => {};
  /** Invalidates the instances' caches first, so that a read after a push returns the new state. */
  const publishTo = (conversationId: string, create: () => Iterable<DurableEvent>): void => {
    let events: DurableEvent[] | undefined;
    const createOnce = () => {
      events ??= [...create()];
      return events;
    };
    bus.publish("conversations", () => createOnce().map(mapEventToChange));
    bus.publish(conversationId, createOnce);
  };
  const publish = (events: Iterable<DurableEvent>): void => {
    for (const event of events) publishTo(event.conversation_id, () => [event]);
    onAppended();
  };

  return {
    /** Events after `afterSeq` up to `untilSeq`, in order, at most `limit`. For callers whose access is checked. */
    list: (conversationId: string, afterSeq: number, untilSeq: number, limit: number): Promise<Slice<DurableEvent>> =>
      listEvents(database, conversationId, afterSeq, untilSeq, limit),

    /** Like `list`, but stops at the size limit of one read; the next read returns the rest. */
    load: (conversationId: string, afterSeq: number, untilSeq: number, limit: number): Promise<DurableEvent[]> =>
      loadEvents(database, conversationId, afterSeq, untilSeq, limit),

    /** The stored end of an answer; null while it is being written. For callers whose access is checked. */
    async findCompletion(answer: Message): Promise<DurableEvent | null> {
      const position = await findCompletion(database, answer);
      return position ? createEvent("message.completed", answer.conversation_id, position, answer) : null;
    },

    /**
     * Runs `work` in one transaction, and publishes the events it appended once they are committed. Changes of the same
     * conversation queue without a connection.
     * @throws Problem `overloaded` when too many wait; whatever `work` throws.
     */
    async write<T>(conversationId: string, work: (transaction: EventTransaction) => Promise<T>): Promise<T> {
      let appended: DurableEvent[] = [];
      const result = await changes.run(conversationId, (sql) => {
        // This may be the second attempt.
        appended = [];
        return work({
          sql,
          async append(type, conversationId, change) {
            const position = await allocateSeq(sql, conversationId, type === "message.created");
            const data = await change(position);
            const event = createEvent(type, conversationId, position, data) as DurableEvent;
            await appendEvent(sql, event);
            appended.push(event);
            return data;
          },
          publishAgain(type, conversationId, position, data) {
            appended.push(createEvent(type, conversationId, position, data) as DurableEvent);
          },
        });
      });
      publish(appended);
      return result;
    },

    /** Publishes events that a function of the database has appended (sql/functions), once they are committed. */
    publish,

    /** Like `publish` for the hot path: `create` builds the events of a conversation only if it may have listeners. */
    publishIfSubscribed(conversationId: string, create: () => Iterable<DurableEvent>): void {
      publishTo(conversationId, create);
      onAppended();
    },

    /** Calls `listener` whenever this instance has committed events. It must be fast and never throw. */
    whenAppended(listener: () => void): void {
      onAppended = listener;
    },
  };
}

export type EventLog = ReturnType<typeof createEventLog>;
