import { type Database, type Sql, withTransaction } from "../../../db/client.ts";
import { repeatUntilDone } from "../../../lib/batches.ts";
import { ABANDON_BATCH_ROWS, abandonDeliveries } from "./results.ts";

/** How long finished deliveries are kept. */
const DELIVERY_RETENTION_DAYS = 30;
/**
 * How long the webhooks to notify of a deleted conversation (`webhook_farewells`) are kept, because its members are
 * gone.
 */
const FAREWELL_RETENTION_DAYS = 1;
/** Maximum rows deleted per statement. */
const DELETE_BATCH_ROWS = 1_000;

/** Fails pending deliveries of disabled webhooks, in batches. */
export async function abandonAll(database: Database, signal: AbortSignal): Promise<void> {
  await repeatUntilDone(() => withTransaction(database, (sql) => abandonDeliveries(sql, ABANDON_BATCH_ROWS)), signal);
}

/** Deletes old finished deliveries, and old entries of `webhook_farewells`, in batches. */
export async function deleteOldDeliveries(database: Database, signal: AbortSignal): Promise<void> {
  await repeatUntilDone(() => withTransaction(database, deleteFarewells), signal);
  let batch: Batch = { count: DELETE_BATCH_ROWS, last_at: null };
  while (batch.count === DELETE_BATCH_ROWS && !signal.aborted) {
    const { last_at } = batch;
    batch = await withTransaction(database, (sql) => deleteDeliveryBatch(sql, last_at));
  }
}

type Batch = { count: number; last_at: string | null };

/**
 * `finishedAfter` is the time of the previous batch's last row. Without it, each batch would scan the dead rows of the
 * previous ones again.
 */
async function deleteDeliveryBatch(sql: Sql, finishedAfter: string | null): Promise<Batch> {
  const [row] = await sql<Batch[]>`
    with old as materialized (
      select ctid as place, finished_at from webhook_deliveries
      where status <> 'pending' and finished_at < now() - ${DELIVERY_RETENTION_DAYS} * interval '1 day'
        and finished_at >= coalesce(${finishedAfter}::timestamptz, '-infinity')
      order by finished_at limit ${DELETE_BATCH_ROWS} for update skip locked
    ),
    deleted as (delete from webhook_deliveries where ctid = any (array(select place from old)))
    select count(*)::int as count, max(finished_at)::text as last_at from old`;
  return row ?? { count: 0, last_at: null };
}

/** Deletes old entries, whose events have been delivered. @returns how many. */
async function deleteFarewells(sql: Sql): Promise<number> {
  const { count } = await sql`
    delete from webhook_farewells where ctid = any (array(
      select ctid from webhook_farewells where at < now() - ${FAREWELL_RETENTION_DAYS} * interval '1 day'
      order by at limit ${DELETE_BATCH_ROWS} for update skip locked))`;
  return count;
}
