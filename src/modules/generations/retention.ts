import type { Database, Sql } from "../../db/client.ts";

/**
 * A generation that has ended is of no use soon: its answer has all that is shown. It is kept for as long as somebody may want
 * to see how an answer came about.
 */
export const FINISHED_KEPT_DAYS = 30;
/** Generations that one statement deletes. */
const DELETED_ROWS = 1_000;

type Batch = { count: number; last_at: string | null };

/**
 * Deletes the oldest of the finished generations that are too old. `afterAt` is where the batch before ended: without it, each
 * batch would walk again through what is deleted and not cleared away yet.
 */
export async function deleteOldGenerations(sql: Sql, afterAt: string | null): Promise<Batch> {
  const [row] = await sql<Batch[]>`
    with old as materialized (
      select ctid as place, finished_at from generations
      where status = 'finished' and finished_at < now() - ${FINISHED_KEPT_DAYS} * interval '1 day'
        and finished_at >= coalesce(${afterAt}::timestamptz, '-infinity')
      order by finished_at limit ${DELETED_ROWS} for update skip locked
    ),
    deleted as (delete from generations where ctid = any (array(select place from old)))
    select count(*)::int as count, max(finished_at)::text as last_at from old`;
  return row ?? { count: 0, last_at: null };
}

/** Deletes all finished generations that are too old, batch by batch. */
export async function forgetFinished(database: Database, signal: AbortSignal): Promise<void> {
  let batch: Batch = { count: DELETED_ROWS, last_at: null };
  while (batch.count === DELETED_ROWS && !signal.aborted) batch = await deleteOldGenerations(database, batch.last_at);
}
