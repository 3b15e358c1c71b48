import type { ChangeRunner } from "../db/changes.ts";
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
import { findCompletion, loadEventSlice, loadEvents } from "./read.ts";
import type { Slice } from "./slice.ts";

/** A transaction that appends events. */
export type EventTransaction = {
  readonly sql: Sql;
  /**
   * Appends an event, which is published after the commit.
   * @param change receives the event's sequence number and time, writes the change, and returns the event's data.
   * @throws Problem `not_found` if the conversation no longer exists, or the errors of `change`.
   */
  append<T extends DurableEventType>(
    type: T,
    conversationId: string,
    change: (position: EventPosition) => Promise<EventData<T>> | EventData<T>,
  ): Promise<EventData<T>>;
  /** Publishes an event that was appended by an earlier attempt, which may have lost its connection after the commit. */
  republish<T extends DurableEventType>(
    type: T,
    conversationId: string,
    position: EventPosition,
    data: EventData<T>,
  ): void;
};

/**
 * Creates the event log, which contains the durable events of all conversations. A conversation's sequence numbers have no gaps.
 * No other code allocates sequence numbers or publishes events. Events are published after their commit.
 */
export function createEventLog({ database, changes, bus }: { database: Database; changes: ChangeRunner; bus: Bus }) {
  let notifyAppended = () => {};
  /** Publishes events. The first message invalidates caches, so that a read after a push returns the new state. */
  const publishTo = (conversationId: string, createEvents: () => Iterable<DurableEvent>): void => {
    let events: DurableEvent[] | undefined;
    const createOnce = () => {
      events ??= [...createEvents()];
      return events;
    };
    bus.publish("conversations", () => createOnce().map(mapEventToChange));
    bus.publish(conversationId, createOnce);
  };
  const publish = (events: Iterable<DurableEvent>): void => {
    for (const event of events) publishTo(event.conversation_id, () => [event]);
    notifyAppended();
  };

  return {
    /** Lists at most `limit` events after `afterSeq` up to `untilSeq`, in order. The caller must have checked access. */
    list: (conversationId: string, afterSeq: number, untilSeq: number, limit: number): Promise<Slice<DurableEvent>> =>
      loadEventSlice(database, conversationId, afterSeq, untilSeq, limit),

    /** Loads events like `list`, but only those that are within the size limit of one read. */
    load: (conversationId: string, afterSeq: number, untilSeq: number, limit: number): Promise<DurableEvent[]> =>
      loadEvents(database, conversationId, afterSeq, untilSeq, limit),

    /** Finds the event that completed an answer. Returns null while it is being written. The caller must have checked access. */
    async findCompletion(answer: Message): Promise<DurableEvent | null> {
      const position = await findCompletion(database, answer);
      return position ? createEvent("message.completed", answer.conversation_id, position, answer) : null;
    },

    /**
     * Runs `work` in a transaction, and then publishes the events that it appended. Changes to the same conversation wait in a
     * queue, without using a connection.
     * @throws Problem `overloaded` if too many changes are waiting, or the errors of `work`.
     */
    async write<T>(conversationId: string, work: (transaction: EventTransaction) => Promise<T>): Promise<T> {
      let appendedEvents: DurableEvent[] = [];
      const result = await changes.run(conversationId, (sql) => {
        // Discards the events of an earlier attempt.
        appendedEvents = [];
        return work({
          sql,
          async append(type, conversationId, change) {
            const position = await allocateSeq(sql, conversationId, type === "message.created");
            const data = await change(position);
            const event = createEvent(type, conversationId, position, data) as DurableEvent;
            await appendEvent(sql, event);
            appendedEvents.push(event);
            return data;
          },
          republish(type, conversationId, position, data) {
            appendedEvents.push(createEvent(type, conversationId, position, data) as DurableEvent);
          },
        });
      });
      publish(appendedEvents);
      return result;
    },

    /** Publishes events that were appended by a database function (sql/functions). Must be called after their commit. */
    publish,

    /** Like `publish`, but cheaper for frequent calls: creates the events only if the conversation may have subscribers. */
    publishIfSubscribed(conversationId: string, create: () => Iterable<DurableEvent>): void {
      publishTo(conversationId, create);
      notifyAppended();
    },

    /** Sets a function that is called after this instance has committed events. It must be fast and not throw. */
    onAppended(listener: () => void): void {
      notifyAppended = listener;
    },
  };
}

export type EventLog = ReturnType<typeof createEventLog>;
