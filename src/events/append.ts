import { requireRow, type Sql } from "../db/client.ts";
import { type DurableEvent, type EventPosition, isMessageEvent } from "../protocol/events.ts";

/**
 * Allocates a conversation's next sequence number. Must be called in the transaction that stores the event. Locks the
 * conversation until the transaction ends, so that sequence numbers become visible in order.
 * @returns the sequence number and the time of the event.
 * @throws Problem `not_found` if the conversation no longer exists.
 */
export async function allocateSeq(sql: Sql, conversationId: string, isMessage: boolean): Promise<EventPosition> {
  const [row] = await sql<{ seq: number | null; at: Date }[]>`
    select first_seqs[1] as seq, taken_at as at from take_positions(
      ${[conversationId]}::uuid[], array[1], array[${isMessage ? 1 : 0}::integer])`;
  return requireRow(row && row.seq !== null ? { seq: row.seq, at: row.at } : undefined, "conversation");
}

/**
 * Stores an event in the transaction that called `allocateSeq`. The data of messages and of conversation settings isn't stored:
 * it is read from their tables when the event is loaded.
 */
export async function appendEvent(sql: Sql, event: DurableEvent): Promise<void> {
  const messageId = isMessageEvent(event) ? event.data.id : null;
  const data = isMessageEvent(event) || event.type === "conversation.updated" ? null : sql.json(event.data);
  await sql`
    select append_events(array[${event.conversation_id}::uuid], array[${event.seq}::bigint], array[${event.type}::text],
      array[${messageId}::uuid], array[${data}::jsonb], ${event.at}::timestamptz)`;
}
