import { requireRow, type Sql } from "../db/client.ts";
import { type DurableEvent, type EventPosition, isMessageEvent } from "../protocol/events.ts";

/**
 * Takes the next number of a conversation, in the transaction that stores the event with this number. Locks the conversation
 * until the transaction ends, so that numbers become visible in order.
 * @param isMessage whether the number is for a message.
 * @returns the number, and the time of the event.
 * @throws Problem `not_found` when the conversation is gone.
 */
export async function allocateSeq(sql: Sql, conversationId: string, isMessage: boolean): Promise<EventPosition> {
  const [row] = await sql<{ seq: number | null; at: Date }[]>`
    select first_seqs[1] as seq, taken_at as at from take_positions(
      ${[conversationId]}::uuid[], array[1], array[${isMessage ? 1 : 0}::integer])`;
  return requireRow(row && row.seq !== null ? { seq: row.seq, at: row.at } : undefined, "conversation");
}

/**
 * Stores an event under a number from `allocateSeq` in this transaction. An event about a message refers to the message. An
 * event about a conversation's settings shows the settings at the time of reading.
 */
export async function appendEvent(sql: Sql, event: DurableEvent): Promise<void> {
  const messageId = isMessageEvent(event) ? event.data.id : null;
  const data = isMessageEvent(event) || event.type === "conversation.updated" ? null : sql.json(event.data);
  await sql`
    select append_events(array[${event.conversation_id}::uuid], array[${event.seq}::bigint], array[${event.type}::text],
      array[${messageId}::uuid], array[${data}::jsonb], ${event.at}::timestamptz)`;
}
