import { type Database, type Sql, withTransaction } from "../../../db/client.ts";
import { repeatUntilDone } from "../../../lib/batches.ts";
import { FAIL_BATCH_ROWS, failDeliveries } from "./results.ts";

/** Finished deliveries are deleted after this time. */
const DELIVERY_RETENTION_DAYS = 30;
/** Rows of `webhook_farewells` (the webhooks to notify of a deleted conversation) are deleted after this time. */
const FAREWELL_RETENTION_DAYS = 1;
/** Maximum rows deleted per statement. */
const DELETE_BATCH_ROWS = 1_000;

/** Marks pending deliveries of disabled webhooks as failed, in batches. */
export async function failAllDeliveries(database: Database, signal: AbortSignal): Promise<void> {
  await repeatUntilDone(() => withTransaction(database, (sql) => failDeliveries(sql, FAIL_BATCH_ROWS)), signal);
}

/** Deletes old finished deliveries and old rows of `webhook_farewells`, in batches. */
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
 * Deletes a batch of old deliveries.
 * @param finishedAfter the time of the previous batch's last row, so that its dead rows aren't scanned again.
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

/** Deletes a batch of old rows. Returns their number. */
async function deleteFarewells(sql: Sql): Promise<number> {
  const { count } = await sql`
    delete from webhook_farewells where ctid = any (array(
      select ctid from webhook_farewells where at < now() - ${FAREWELL_RETENTION_DAYS} * interval '1 day'
      order by at limit ${DELETE_BATCH_ROWS} for update skip locked))`;
  return count;
}
