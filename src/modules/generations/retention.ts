import type { Database, Sql } from "../../db/client.ts";

/** How long ended generations are kept for diagnosis. The answer itself has everything that is shown. */
export const FINISHED_RETENTION_DAYS = 30;
/** Generations deleted per statement. */
const DELETED_ROWS = 1_000;

type Batch = { count: number; last_at: string | null };

/**
 * Deletes the oldest expired generations. `afterAt` is where the previous batch ended: without it, each batch would scan the
 * rows that are deleted but not vacuumed yet.
 */
export async function deleteOldGenerations(sql: Sql, afterAt: string | null): Promise<Batch> {
  const [row] = await sql<Batch[]>`
    with old as materialized (
      select ctid as place, finished_at from generations
      where status = 'finished' and finished_at < now() - ${FINISHED_RETENTION_DAYS} * interval '1 day'
        and finished_at >= coalesce(${afterAt}::timestamptz, '-infinity')
      order by finished_at limit ${DELETED_ROWS} for update skip locked
    ),
    deleted as (delete from generations where ctid = any (array(select place from old)))
    select count(*)::int as count, max(finished_at)::text as last_at from old`;
  return row ?? { count: 0, last_at: null };
}

/** Deletes all expired generations in batches. */
export async function forgetFinished(database: Database, signal: AbortSignal): Promise<void> {
  let batch: Batch = { count: DELETED_ROWS, last_at: null };
  while (batch.count === DELETED_ROWS && !signal.aborted) batch = await deleteOldGenerations(database, batch.last_at);
}
