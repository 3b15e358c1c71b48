import { type Database, type Sql, withTransaction } from "../../../db/client.ts";
import { repeatUntilDone } from "../../../lib/batches.ts";
import { ABANDONED_ROWS, abandonDeliveries } from "./results.ts";

/** How long ended deliveries are kept. */
const DELIVERY_RETENTION_DAYS = 30;
/** How long the members of a deleted conversation are remembered. */
const FAREWELL_RETENTION_DAYS = 1;
/** Deliveries deleted per statement. */
const DELETED_ROWS = 1_000;

/** Ends pending deliveries of disabled webhooks, in batches. */
export async function abandonAll(database: Database, signal: AbortSignal): Promise<void> {
  await repeatUntilDone(() => withTransaction(database, (sql) => abandonDeliveries(sql, ABANDONED_ROWS)), signal);
}

/** Deletes old ended deliveries and the recipients of deleted conversations, in batches. */
export async function forgetDeliveries(database: Database, signal: AbortSignal): Promise<void> {
  await repeatUntilDone(() => withTransaction(database, deleteFarewells), signal);
  let batch: Batch = { count: DELETED_ROWS, last_at: null };
  while (batch.count === DELETED_ROWS && !signal.aborted) {
    const { last_at } = batch;
    batch = await withTransaction(database, (sql) => deleteOldDeliveries(sql, last_at));
  }
}

type Batch = { count: number; last_at: string | null };

/** `afterAt` is the end of the previous batch: without it, each batch scans the dead rows of the previous ones again. */
async function deleteOldDeliveries(sql: Sql, afterAt: string | null): Promise<Batch> {
  const [row] = await sql<Batch[]>`
    with old as materialized (
      select ctid as place, finished_at from webhook_deliveries
      where status <> 'pending' and finished_at < now() - ${DELIVERY_RETENTION_DAYS} * interval '1 day'
        and finished_at >= coalesce(${afterAt}::timestamptz, '-infinity')
      order by finished_at limit ${DELETED_ROWS} for update skip locked
    ),
    deleted as (delete from webhook_deliveries where ctid = any (array(select place from old)))
    select count(*)::int as count, max(finished_at)::text as last_at from old`;
  return row ?? { count: 0, last_at: null };
}

/** They are no longer needed by then. @returns how many. */
async function deleteFarewells(sql: Sql): Promise<number> {
  const { count } = await sql`
    delete from webhook_farewells where ctid = any (array(
      select ctid from webhook_farewells where at < now() - ${FAREWELL_RETENTION_DAYS} * interval '1 day'
      order by at limit ${DELETED_ROWS} for update skip locked))`;
  return count;
}
