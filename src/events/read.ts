import type { Sql } from "../db/client.ts";
import { type ConversationRow, mapRowToSharedConversation, type SharedConversation } from "../protocol/conversation.ts";
import { createEvent, type DurableEvent, type DurableEventType, type EventPosition } from "../protocol/events.ts";
import { type Message, type MessageRow, mapRowToMessage } from "../protocol/message.ts";
import { conversationColumns, messageColumns } from "./columns.ts";
import { createSlice, type MeasuredRow, READ_BYTES_MAX, type Slice, selectTextSizes } from "./slice.ts";

/** A row of `events` with its message. If `type` is null, it is a row of `messages` and represents a `message.created` event. */
type EventRow = MessageRow & {
  event_seq: number;
  type: DurableEventType | null;
  data: Record<string, unknown> | null;
  at: Date | null;
};

/**
 * Loads the durable events after `afterSeq` up to `untilSeq`, in order. `message.created` events are read from the messages
 * themselves. Events contain the current state of a message or a conversation's settings, because a replay ends with that state
 * anyway.
 */
export async function loadEventSlice(
  sql: Sql,
  conversationId: string,
  afterSeq: number,
  untilSeq: number,
  limit: number,
): Promise<Slice<DurableEvent>> {
  const measuredRows = await sql<(EventRow & MeasuredRow)[]>`
    select x.event_seq, x.type, x.data, x.at, ${messageColumns(sql)}, x.bytes_before from (
      select x.*, ${selectTextSizes(sql, sql`x.event_seq`)} from (
        (select x.seq as event_seq, null as type, null::jsonb as data, null::timestamptz as at, ${messageColumns(sql)}
         from current_messages x
         where x.conversation_id = ${conversationId} and x.seq > ${afterSeq} and x.seq <= ${untilSeq}
         order by x.seq limit ${limit})
        union all
        (select e.seq, e.type, e.data, e.at, ${messageColumns(sql)}
         from events e left join lateral (
           -- The limit gives the subquery its own plan, see sql/functions/send_messages.sql.
           select * from current_messages m where m.conversation_id = ${conversationId} and m.id = e.message_id limit 1
         ) x on true
         where e.conversation_id = ${conversationId} and e.seq > ${afterSeq} and e.seq <= ${untilSeq}
         order by e.seq limit ${limit})
        order by event_seq limit ${limit}
      ) x
    ) x
    where x.bytes_before_last <= ${READ_BYTES_MAX} order by x.event_seq`;
  const { rows, fittingCount } = createSlice(measuredRows);
  const hasSettingsEvent = rows.some(({ type }) => type === "conversation.updated");
  const sharedConversation = hasSettingsEvent ? await findSharedConversation(sql, conversationId) : undefined;
  return { rows: rows.map((row) => mapRowToEvent(row, conversationId, sharedConversation)), fittingCount };
}

/** Loads events like `loadEventSlice`, but only those that are within the size limit of one read. */
export async function loadEvents(
  sql: Sql,
  conversationId: string,
  afterSeq: number,
  untilSeq: number,
  limit: number,
): Promise<DurableEvent[]> {
  const slice = await loadEventSlice(sql, conversationId, afterSeq, untilSeq, limit);
  return slice.rows.slice(0, slice.fittingCount);
}

/** A range of events of one conversation. */
export type EventRange = { conversationId: string; afterSeq: number; untilSeq: number };

/**
 * Loads events from several conversations in one statement.
 * @returns the events of each range in order, or fewer if all ranges together would exceed the size limit of one read.
 */
export async function loadEventRanges(
  sql: Sql,
  ranges: readonly EventRange[],
  limitPerRange: number,
): Promise<DurableEvent[][]> {
  const measuredRows = await sql<(EventRow & MeasuredRow & { range_number: number; range_conversation_id: string })[]>`
    select x.* from (
      select r.range_number, r.id as range_conversation_id, x.*, ${selectTextSizes(sql, sql`r.range_number, x.event_seq`)}
      from unnest(
        ${ranges.map(({ conversationId }) => conversationId)}::uuid[], ${ranges.map(({ afterSeq }) => afterSeq)}::bigint[],
        ${ranges.map(({ untilSeq }) => untilSeq)}::bigint[]
      ) with ordinality r (id, after_seq, until_seq, range_number)
      cross join lateral (
        (select x.seq as event_seq, null as type, null::jsonb as data, null::timestamptz as at, ${messageColumns(sql)}
         from current_messages x
         where x.conversation_id = r.id and x.seq > r.after_seq and x.seq <= r.until_seq
         order by x.seq limit ${limitPerRange})
        union all
        (select e.seq, e.type, e.data, e.at, ${messageColumns(sql)}
         from events e left join lateral (
           select * from current_messages m where m.conversation_id = r.id and m.id = e.message_id limit 1
         ) x on true
         where e.conversation_id = r.id and e.seq > r.after_seq and e.seq <= r.until_seq
         order by e.seq limit ${limitPerRange})
        order by event_seq limit ${limitPerRange}
      ) x
    ) x
    where x.bytes_before <= ${READ_BYTES_MAX} order by x.range_number, x.event_seq`;
  const conversations = new Map<string, SharedConversation | undefined>();
  for (const { type, range_conversation_id: id } of measuredRows)
    if (type === "conversation.updated" && !conversations.has(id))
      conversations.set(id, await findSharedConversation(sql, id));
  const events: DurableEvent[][] = ranges.map(() => []);
  for (const row of measuredRows) {
    const { range_number, range_conversation_id: id } = row;
    events[range_number - 1]?.push(mapRowToEvent(row, id, conversations.get(id)));
  }
  return events;
}

/** Finds the fields of a conversation that are the same for all members. Returns undefined if it no longer exists. */
export async function findSharedConversation(
  sql: Sql,
  conversationId: string,
): Promise<SharedConversation | undefined> {
  const [row] = await sql<ConversationRow[]>`
    select ${conversationColumns(sql)} from conversations c where c.id = ${conversationId}`;
  return row && mapRowToSharedConversation(row);
}

/** Finds the sequence number and time of an answer's `message.completed` event. */
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

function mapRowToEvent(row: EventRow, conversationId: string, shared: SharedConversation | undefined): DurableEvent {
  const { event_seq: seq, type, data, at } = row;
  const message = row.id ? mapRowToMessage(row) : undefined;
  const currentData = message ?? (type === "conversation.updated" ? shared : data);
  // The type of the data depends only on the event's type.
  const eventData = (currentData ?? {}) as DurableEvent["data"];
  return createEvent(type ?? "message.created", conversationId, { seq, at: at ?? row.created_at }, eventData);
}
