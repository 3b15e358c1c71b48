import type { Sql } from "../db/client.ts";
import { type ConversationRow, mapRowToShared, type SharedConversation } from "../protocol/conversation.ts";
import { createEvent, type DurableEvent, type DurableEventType, type EventPosition } from "../protocol/events.ts";
import { type Message, type MessageRow, mapRowToMessage } from "../protocol/message.ts";
import { conversationColumns, messageColumns } from "./columns.ts";
import { createSlice, type Measured, measure, READ_BYTES_MAX, type Slice } from "./slice.ts";

/** `type`, `data` and `at` are null for a message, which is its own `message.created` event. */
type EventRow = MessageRow & {
  event_seq: number;
  type: DurableEventType | null;
  data: Record<string, unknown> | null;
  at: Date | null;
};

/**
 * Lists durable events after `afterSeq` up to `untilSeq`, in order. A message is its own `message.created` event. Events contain
 * the current state of a message or of a conversation's settings, because that is where every replay ends.
 */
export async function listEvents(
  sql: Sql,
  conversationId: string,
  afterSeq: number,
  untilSeq: number,
  rows: number,
): Promise<Slice<DurableEvent>> {
  const found = await sql<(EventRow & Measured)[]>`
    select x.event_seq, x.type, x.data, x.at, ${messageColumns(sql)}, x.bytes_before from (
      select x.*, ${measure(sql, sql`x.event_seq`)} from (
        (select x.seq as event_seq, null as type, null::jsonb as data, null::timestamptz as at, ${messageColumns(sql)}
         from current_messages x
         where x.conversation_id = ${conversationId} and x.seq > ${afterSeq} and x.seq <= ${untilSeq}
         order by x.seq limit ${rows})
        union all
        (select e.seq, e.type, e.data, e.at, ${messageColumns(sql)}
         from events e left join lateral (
           -- With a limit it gets its own plan, see sql/functions/send_messages.sql.
           select * from current_messages m where m.conversation_id = ${conversationId} and m.id = e.message_id limit 1
         ) x on true
         where e.conversation_id = ${conversationId} and e.seq > ${afterSeq} and e.seq <= ${untilSeq}
         order by e.seq limit ${rows})
        order by event_seq limit ${rows}
      ) x
    ) x
    where x.bytes_before_last <= ${READ_BYTES_MAX} order by x.event_seq`;
  const { rows: measured, fitting } = createSlice(found);
  const isChanged = measured.some(({ type }) => type === "conversation.updated");
  const shared = isChanged ? await findShared(sql, conversationId) : undefined;
  return { rows: measured.map((row) => mapRowToEvent(row, conversationId, shared)), fitting };
}

/** Like `listEvents`, but returns fewer events if they would exceed the size limit of one read. */
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

/** A range of events of one conversation. */
export type EventRange = { conversationId: string; afterSeq: number; untilSeq: number };

/**
 * Reads events of several conversations in one statement.
 * @returns the events of each range, in order. Returns fewer if all ranges together would exceed the size limit of one read.
 */
export async function loadEventsOf(sql: Sql, ranges: readonly EventRange[], rows: number): Promise<DurableEvent[][]> {
  const found = await sql<(EventRow & Measured & { place: number; of: string })[]>`
    select x.* from (
      select r.place, r.id as of, x.*, ${measure(sql, sql`r.place, x.event_seq`)}
      from unnest(
        ${ranges.map(({ conversationId }) => conversationId)}::uuid[], ${ranges.map(({ afterSeq }) => afterSeq)}::bigint[],
        ${ranges.map(({ untilSeq }) => untilSeq)}::bigint[]
      ) with ordinality r (id, after_seq, until_seq, place)
      cross join lateral (
        (select x.seq as event_seq, null as type, null::jsonb as data, null::timestamptz as at, ${messageColumns(sql)}
         from current_messages x
         where x.conversation_id = r.id and x.seq > r.after_seq and x.seq <= r.until_seq
         order by x.seq limit ${rows})
        union all
        (select e.seq, e.type, e.data, e.at, ${messageColumns(sql)}
         from events e left join lateral (
           select * from current_messages m where m.conversation_id = r.id and m.id = e.message_id limit 1
         ) x on true
         where e.conversation_id = r.id and e.seq > r.after_seq and e.seq <= r.until_seq
         order by e.seq limit ${rows})
        order by event_seq limit ${rows}
      ) x
    ) x
    where x.bytes_before <= ${READ_BYTES_MAX} order by x.place, x.event_seq`;
  const shared = new Map<string, SharedConversation | undefined>();
  for (const { type, of } of found)
    if (type === "conversation.updated" && !shared.has(of)) shared.set(of, await findShared(sql, of));
  const events: DurableEvent[][] = ranges.map(() => []);
  for (const row of found) events[row.place - 1]?.push(mapRowToEvent(row, row.of, shared.get(row.of)));
  return events;
}

/** Finds the part of a conversation that is the same for all members; undefined if the conversation no longer exists. */
export async function findShared(sql: Sql, conversationId: string): Promise<SharedConversation | undefined> {
  const [row] = await sql<ConversationRow[]>`
    select ${conversationColumns(sql)} from conversations c where c.id = ${conversationId}`;
  return row && mapRowToShared(row);
}

/** Finds the position of an answer's `message.completed` event. */
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
  const shown = message ?? (type === "conversation.updated" ? shared : data);
  // append_events stored the data, whose type depends only on the event's type.
  const known = (shown ?? {}) as DurableEvent["data"];
  return createEvent(type ?? "message.created", conversationId, { seq, at: at ?? row.created_at }, known);
}
