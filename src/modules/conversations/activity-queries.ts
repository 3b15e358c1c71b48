import type { Sql } from "../../db/client.ts";

/** Rows moved per statement. */
const MOVED_ROWS = 500;

/** A conversation to move in its members' lists, according to the time of its latest activity. */
export type Move = { conversation_id: string; at: string };

export async function hasMoves(sql: Sql): Promise<boolean> {
  return (await sql`select 1 from activity_moves limit 1`).length > 0;
}

/** Lists at most `rows` pending moves, after a conversation id. */
export async function listMoves(sql: Sql, afterId: string, rows: number): Promise<Move[]> {
  // As text, to keep the microseconds.
  return sql<Move[]>`
    select conversation_id, at::text as at from activity_moves
    where conversation_id > ${afterId} order by conversation_id limit ${rows}`;
}

/**
 * Moves a conversation in the lists of a batch of its members. Locked rows are skipped: the transaction that has locked
 * them moves them.
 * @returns the last member of the batch; undefined when all are done.
 */
export async function moveBatch(
  sql: Sql,
  { conversation_id, at }: Move,
  afterUserId: string,
): Promise<string | undefined> {
  const [row] = await sql<{ last: string | null }[]>`
    with batch as materialized (
      select user_id from member_activity where conversation_id = ${conversation_id} and user_id > ${afterUserId}
      order by user_id limit ${MOVED_ROWS}
    ), moved as (
      update member_activity a set active_at = ${at}::text::timestamptz
      where a.conversation_id = ${conversation_id} and a.user_id = any (array(
        select x.user_id from batch b
        join member_activity x on x.conversation_id = ${conversation_id} and x.user_id = b.user_id
        -- Never back in time: a later event may have moved them already.
        where x.active_at < ${at}::text::timestamptz
        order by x.user_id for update of x skip locked))
    )
    select max(user_id::text) as last from batch`;
  return row?.last ?? undefined;
}

/**
 * Deletes a move unless there was new activity. A locked one is receiving some, so the next run moves
 * the conversation.
 */
export async function deleteMove(sql: Sql, { conversation_id, at }: Move): Promise<void> {
  await sql`
    delete from activity_moves where conversation_id = any (array(
      select conversation_id from activity_moves
      where conversation_id = ${conversation_id} and at = ${at}::text::timestamptz for update skip locked))`;
}
