import type { Sql } from "../../db/client.ts";

/** The number of rows moved per statement. */
const BATCH_ROWS = 500;

/** A conversation to move in its members' lists. `at` is the time of its latest activity. */
export type PendingMove = { conversation_id: string; at: string };

export async function hasPendingMoves(sql: Sql): Promise<boolean> {
  return (await sql`select 1 from activity_moves limit 1`).length > 0;
}

/** Lists at most `rowsMax` pending moves, ordered by conversation id. Starts after the conversation `afterId`. */
export async function listPendingMoves(sql: Sql, afterId: string, rowsMax: number): Promise<PendingMove[]> {
  // Selected as a string, to keep the microseconds.
  return sql<PendingMove[]>`
    select conversation_id, at::text as at from activity_moves
    where conversation_id > ${afterId} order by conversation_id limit ${rowsMax}`;
}

/**
 * Moves a conversation in the lists of the next members after `afterUserId`. Locked rows are skipped, because the transaction that holds
 * the lock moves them.
 * @returns the last member of the batch, or undefined if there are no more members.
 */
export async function moveInMemberLists(
  sql: Sql,
  { conversation_id, at }: PendingMove,
  afterUserId: string,
): Promise<string | undefined> {
  const [row] = await sql<{ last: string | null }[]>`
    with batch as materialized (
      select user_id from member_activity where conversation_id = ${conversation_id} and user_id > ${afterUserId}
      order by user_id limit ${BATCH_ROWS}
    ), moved as (
      update member_activity a set active_at = ${at}::text::timestamptz
      where a.conversation_id = ${conversation_id} and a.user_id = any (array(
        select x.user_id from batch b
        join member_activity x on x.conversation_id = ${conversation_id} and x.user_id = b.user_id
        -- Rows aren't moved back in time, because a later event may already have moved them.
        where x.active_at < ${at}::text::timestamptz
        order by x.user_id for update of x skip locked))
    )
    select max(user_id::text) as last from batch`;
  return row?.last ?? undefined;
}

/**
 * Deletes a completed move unless there was new activity. If the row is locked, new activity is being stored, so the next run moves the
 * conversation again.
 */
export async function deletePendingMove(sql: Sql, { conversation_id, at }: PendingMove): Promise<void> {
  await sql`
    delete from activity_moves where conversation_id = any (array(
      select conversation_id from activity_moves
      where conversation_id = ${conversation_id} and at = ${at}::text::timestamptz for update skip locked))`;
}
