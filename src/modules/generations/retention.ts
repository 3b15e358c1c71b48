import type { Database, Sql } from "../../db/client.ts";

/** How long finished generations are kept for diagnosis. Clients don't need them. */
export const FINISHED_RETENTION_DAYS = 30;
/** The number of generations deleted per statement. */
const BATCH_ROWS = 1_000;

type Batch = { count: number; last_at: string | null };

/**
 * Deletes a batch of the oldest expired generations. `afterAt` is the time of the previous batch's last generation. Without it, each batch
 * would scan the deleted rows that haven't been vacuumed yet.
 */
export async function deleteOldGenerations(sql: Sql, afterAt: string | null): Promise<Batch> {
  const [row] = await sql<Batch[]>`
    with old as materialized (
      select ctid as place, finished_at from generations
      where status = 'finished' and finished_at < now() - ${FINISHED_RETENTION_DAYS} * interval '1 day'
        and finished_at >= coalesce(${afterAt}::timestamptz, '-infinity')
      order by finished_at limit ${BATCH_ROWS} for update skip locked
    ),
    deleted as (delete from generations where ctid = any (array(select place from old)))
    select count(*)::int as count, max(finished_at)::text as last_at from old`;
  return row ?? { count: 0, last_at: null };
}

/** Deletes all expired generations in batches. */
export async function deleteFinished(database: Database, signal: AbortSignal): Promise<void> {
  let batch: Batch = { count: BATCH_ROWS, last_at: null };
  while (batch.count === BATCH_ROWS && !signal.aborted) batch = await deleteOldGenerations(database, batch.last_at);
}
