import type { Sql } from "../../../db/client.ts";
import { requireRow } from "../../../db/client.ts";
import { createId } from "../../../lib/id.ts";

/**
 * Expands up to `rowsMax` outbox rows into deliveries. Each row represents the events of a commit.
 * @returns the number of expanded rows and of new deliveries; null if another instance is expanding the outbox.
 */
export async function expandOutbox(
  sql: Sql,
  rowsMax: number,
): Promise<{ rowCount: number; deliveryCount: number } | null> {
  const [row] = await sql<{ taken: number | null; made: number | null }[]>`
    select taken, made from expand_webhook_outbox(${rowsMax})`;
  const { taken, made } = requireRow(row, "outbox");
  return taken === null || made === null ? null : { rowCount: taken, deliveryCount: made };
}

/** Returns whether there is work. The query is cheap, because every instance polls it. */
export async function findWork(sql: Sql): Promise<{ hasWebhooks: boolean; hasOutbox: boolean }> {
  const [row] = await sql<{ hasWebhooks: boolean; hasOutbox: boolean }[]>`
    select exists (select from webhooks where disabled_at is null) as "hasWebhooks",
      exists (select from webhook_outbox) as "hasOutbox"`;
  return requireRow(row, "work");
}

/** Adds a delivery to a webhook, regardless of the events it subscribes to. Returns the delivery's id. */
export async function addDelivery(
  sql: Sql,
  {
    webhookId,
    type,
    data,
  }: { webhookId: string; type: string; data: Record<string, string | number | boolean | null> },
): Promise<string> {
  const id = createId();
  await sql`
    insert into webhook_deliveries (id, webhook_id, type, user_id, data, occurred_at, next_attempt_at)
    select ${id}, w.id, ${type}, w.user_id, ${sql.json(data)}, date_trunc('milliseconds', now()), clock_timestamp()
    from webhooks w where w.id = ${webhookId}`;
  return id;
}

/** Makes a delivery pending again and resets its attempts, regardless of its status. Keeps its id. */
export async function redeliver(sql: Sql, deliveryId: string): Promise<void> {
  await sql`
    update webhook_deliveries set status = 'pending', attempts = 0, next_attempt_at = clock_timestamp(),
      finished_at = null, error = null, response_status = null, response_body = null, duration_ms = null
    where id = ${deliveryId}`;
}

/** Enables a webhook. Failed deliveries aren't retried. */
export async function enableWebhook(sql: Sql, id: string): Promise<void> {
  await sql`
    update webhooks set disabled_at = null, disabled_reason = null, paused_until = null, updated_at = now()
    where id = ${id}`;
}
