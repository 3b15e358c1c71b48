import { requireRow, type Sql } from "../../db/client.ts";
import type { DurableEvent, DurableEventType } from "../../realtime/frames.ts";

export type NewEvent = {
  conversationId: string;
  type: DurableEventType;
  /** Set for an event about a message: its content is then read from the message itself. */
  messageId?: string;
  data?: Record<string, unknown>;
};

/**
 * Takes the conversation's next number and stores the event under it; the counter's row lock orders all writers.
 * Publish it after the commit, never before.
 * @throws Problem `not_found` when the conversation is gone.
 */
export async function appendEvent(sql: Sql, event: NewEvent): Promise<{ seq: number; at: Date }> {
  const data = event.data ? sql.json(event.data as Parameters<Sql["json"]>[0]) : null;
  const [row] = await sql<{ seq: number; at: Date }[]>`
    with taken as (
      update conversations set last_seq = last_seq + 1, updated_at = now()
      where id = ${event.conversationId} returning last_seq, updated_at
    )
    insert into events (conversation_id, seq, type, message_id, data, at)
    select ${event.conversationId}, last_seq, ${event.type}, ${event.messageId ?? null}, ${data}, updated_at from taken
    returning seq, at`;
  return requireRow(row, "conversation");
}

/** The envelope of a stored event. */
export function createEvent(
  type: DurableEventType,
  conversationId: string,
  { seq, at }: { seq: number; at: Date },
  data: Record<string, unknown>,
): DurableEvent {
  return { type, conversation_id: conversationId, seq, at: at.toISOString(), data };
}
