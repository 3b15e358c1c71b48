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
import { appendEvent, takeSeq } from "./append.ts";
import { mapEventToChange } from "./map-event-to-change.ts";
import { findCompletion, listEvents, loadEvents } from "./read.ts";
import type { Slice } from "./slice.ts";

/** A transaction that appends events. */
export type EventTransaction = {
  readonly sql: Sql;
  /**
   * Appends an event under the conversation's next number, and has it published after the commit.
   * @param change writes what the event tells of, and returns the event's data; it gets the number and the time.
   * @throws Problem `not_found` when the conversation is gone; whatever `change` throws.
   */
  append<T extends DurableEventType>(
    type: T,
    conversationId: string,
    change: (position: EventPosition) => Promise<EventData<T>> | EventData<T>,
  ): Promise<EventData<T>>;
  /** Has an event published that an earlier try has appended: its commit got no response, so it may not be published yet. */
  publishAgain<T extends DurableEventType>(
    type: T,
    conversationId: string,
    position: EventPosition,
    data: EventData<T>,
  ): void;
};

/**
 * The log of each conversation: every durable event, numbered without gaps. Whatever changes a conversation appends an
 * event here; nobody else takes numbers or pushes events. Events are pushed after their commit, never before.
 */
export function createEventLog({ database, changes, bus }: { database: Database; changes: Changes; bus: Bus }) {
  let onAppended = () => {};
  /** First what instances remember of the conversation, so that whoever reads after a push reads the new state. */
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

    /** The same, without those that are too much for one read: they come with the next one. */
    load: (conversationId: string, afterSeq: number, untilSeq: number, limit: number): Promise<DurableEvent[]> =>
      loadEvents(database, conversationId, afterSeq, untilSeq, limit),

    /** The stored end of an answer; null while it is being written. For callers whose access is checked. */
    async findCompletion(answer: Message): Promise<DurableEvent | null> {
      const position = await findCompletion(database, answer);
      return position ? createEvent("message.completed", answer.conversation_id, position, answer) : null;
    },

    /**
     * Runs `work` in one transaction, and publishes the events that it appended once they are committed. Changes of the
     * same conversation wait for each other, without a connection.
     * @throws Problem `overloaded` when too many wait; whatever `work` throws.
     */
    async write<T>(conversationId: string, work: (transaction: EventTransaction) => Promise<T>): Promise<T> {
      let appended: DurableEvent[] = [];
      const result = await changes.run(conversationId, (sql) => {
        // It may be the second try.
        appended = [];
        return work({
          sql,
          async append(type, conversationId, change) {
            const position = await takeSeq(sql, conversationId, type === "message.created");
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

    /** The same for the hot path: `create` makes the events of a conversation only if somebody may hear them. */
    publishIfHeard(conversationId: string, create: () => Iterable<DurableEvent>): void {
      publishTo(conversationId, create);
      onAppended();
    },

    /** Has `listener` called whenever this instance has committed events. It must be quick, and throw nothing. */
    whenAppended(listener: () => void): void {
      onAppended = listener;
    },
  };
}

export type EventLog = ReturnType<typeof createEventLog>;
