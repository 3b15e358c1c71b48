import type { Sql } from "../db/client.ts";
import { type ConversationRow, mapRowToShared, type SharedConversation } from "../protocol/conversation.ts";
import { createEvent, type DurableEvent, type DurableEventType, type EventPosition } from "../protocol/events.ts";
import { type Message, type MessageRow, mapRowToMessage } from "../protocol/message.ts";
import { conversationColumns, messageColumns } from "./columns.ts";
import { createSlice, type Measured, measure, READ_BYTES_MAX, type Slice } from "./slice.ts";

type EventRow = MessageRow & {
  event_seq: number;
  type: DurableEventType;
  data: Record<string, unknown> | null;
  at: Date;
};

/**
 * Durable events after `afterSeq` up to `untilSeq`, in order. A message is its own `message.created`. What an event says
 * of a message or of a conversation's settings is their state now, which is where every replay ends up.
 */
export async function listEvents(
  sql: Sql,
  conversationId: string,
  afterSeq: number,
  untilSeq: number,
  rows: number,
): Promise<Slice<DurableEvent>> {
  const found = await sql<(EventRow & Measured)[]>`
    with numbered as (
      (select seq, 'message.created' as type, id as message_id, null::jsonb as data, created_at as at from messages
       where conversation_id = ${conversationId} and seq > ${afterSeq} and seq <= ${untilSeq} order by seq limit ${rows})
      union all
      (select seq, type, message_id, data, at from events
       where conversation_id = ${conversationId} and seq > ${afterSeq} and seq <= ${untilSeq} order by seq limit ${rows})
      order by seq limit ${rows}
    ), measured as (
      select n.seq as event_seq, n.type, n.data, n.at, ${messageColumns(sql)}, ${measure(sql, sql`n.seq`)}
      from numbered n left join lateral (
        -- With a limit it is planned by itself, see sql/functions/send_messages.sql.
        select ${messageColumns(sql)} from current_messages x
        where x.conversation_id = ${conversationId} and x.id = n.message_id limit 1
      ) x on true
    )
    select * from measured where bytes_before_last <= ${READ_BYTES_MAX} order by event_seq`;
  const { rows: measured, fitting } = createSlice(found);
  const isChanged = measured.some(({ type }) => type === "conversation.updated");
  const shared = isChanged ? await findShared(sql, conversationId) : undefined;
  return { rows: measured.map((row) => mapRowToEvent(row, conversationId, shared)), fitting };
}

/** The same, without those that are too much for one read: they come with the next one. */
export async function loadEvents(
  sql: Sql,
  conversationId: string,
  afterSeq: number,
  untilSeq: number,
  rows: number,
): Promise<DurableEvent[]> {
  const slice = await listEvents(sql, conversationId, afterSeq, untilSeq, rows);
  return slice.rows.slice(0, slice.fitting);
}

/** The number of the newest event of a conversation; 0 when it is gone. */
export async function findLastSeq(sql: Sql, conversationId: string): Promise<number> {
  const [row] = await sql<{ last_seq: number }[]>`select last_seq from conversations where id = ${conversationId}`;
  return row?.last_seq ?? 0;
}

/** What everyone sees of a conversation alike; undefined when it is gone. */
export async function findShared(sql: Sql, conversationId: string): Promise<SharedConversation | undefined> {
  const [row] = await sql<ConversationRow[]>`
    select ${conversationColumns(sql)} from conversations c where c.id = ${conversationId}`;
  return row && mapRowToShared(row);
}

/** The end of an answer: its `message.completed`. */
export async function findCompletion(
  sql: Sql,
  { id, conversation_id, seq }: Pick<Message, "id" | "conversation_id" | "seq">,
): Promise<EventPosition | undefined> {
  const [row] = await sql<EventPosition[]>`
    select seq, at from events
    where conversation_id = ${conversation_id} and seq > ${seq} and message_id = ${id} and type = 'message.completed'
    order by seq limit 1`;
  return row;
}

function mapRowToEvent(
  { event_seq: seq, type, data, at, ...message }: EventRow,
  conversationId: string,
  shared: SharedConversation | undefined,
): DurableEvent {
  const shown = message.id ? mapRowToMessage(message) : type === "conversation.updated" ? shared : data;
  // The catalogue has one kind of data for each type; append_events stored it.
  return createEvent(type, conversationId, { seq, at }, (shown ?? {}) as DurableEvent["data"]);
}
