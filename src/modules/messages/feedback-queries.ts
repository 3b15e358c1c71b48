import type { Sql } from "../../db/client.ts";
import type { Feedback } from "./model.ts";

type RatedMessage = { conversation_id: string; seq: number };

export async function hasFeedback(sql: Sql, { conversation_id, seq }: RatedMessage, userId: string): Promise<boolean> {
  const rows = await sql`
    select 1 from feedback
    where conversation_id = ${conversation_id} and message_seq = ${seq} and user_id = ${userId}`;
  return rows.length > 0;
}

/** Deletes a rating. Returns false if there was none. */
export async function deleteFeedback(
  sql: Sql,
  { conversation_id, seq }: RatedMessage,
  userId: string,
): Promise<boolean> {
  const { count } = await sql`
    delete from feedback
    where conversation_id = ${conversation_id} and message_seq = ${seq} and user_id = ${userId}`;
  return count > 0;
}

export async function upsertFeedback(
  sql: Sql,
  message: RatedMessage & { id: string },
  userId: string,
  rating: number,
  comment: string | null,
): Promise<Feedback> {
  const [row] = await sql<{ rating: number; comment: string | null; updated_at: Date }[]>`
    insert into feedback (conversation_id, message_seq, user_id, message_id, rating, comment)
    values (${message.conversation_id}, ${message.seq}, ${userId}, ${message.id}, ${rating}, ${comment})
    on conflict (conversation_id, message_seq, user_id)
      do update set rating = excluded.rating, comment = excluded.comment, updated_at = now()
    returning rating, comment, updated_at`;
  if (!row) throw new Error("The upsert returned no row.");
  return { message_id: message.id, ...row, updated_at: row.updated_at.toISOString() };
}
