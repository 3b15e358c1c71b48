import type { Sql } from "../../../db/client.ts";
import { requireRow } from "../../../db/client.ts";
import { createId } from "../../../lib/id.ts";

/**
 * Expands up to `rows` outbox rows into deliveries: each row represents events committed together.
 * @returns the number of rows and deliveries; null: another instance is doing it.
 */
export async function expandOutbox(sql: Sql, rows: number): Promise<{ taken: number; made: number } | null> {
  const [row] = await sql<{ taken: number | null; made: number | null }[]>`
    select taken, made from expand_webhook_outbox(${rows})`;
  const { taken, made } = requireRow(row, "outbox");
  return taken === null || made === null ? null : { taken, made };
}

/** Whether there is work: a cheap query, since each instance polls it. */
export async function findWork(sql: Sql): Promise<{ hasWebhooks: boolean; hasOutbox: boolean }> {
  const [row] = await sql<{ hasWebhooks: boolean; hasOutbox: boolean }[]>`
    select exists (select from webhooks where disabled_at is null) as "hasWebhooks",
      exists (select from webhook_outbox) as "hasOutbox"`;
  return requireRow(row, "answer");
}

/** A delivery to one webhook, regardless of the events it subscribes to. @returns its id. */
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

/** Delivers it again with the same id and fresh attempts, regardless of its status. */
export async function redeliver(sql: Sql, deliveryId: string): Promise<void> {
  await sql`
    update webhook_deliveries set status = 'pending', attempts = 0, next_attempt_at = clock_timestamp(),
      finished_at = null, error = null, response_status = null, response_body = null, duration_ms = null
    where id = ${deliveryId}`;
}

/** Resumes deliveries to a webhook that was disabled. Failed deliveries stay failed. */
export async function enableWebhook(sql: Sql, id: string): Promise<void> {
  await sql`
    update webhooks set disabled_at = null, disabled_reason = null, paused_until = null, updated_at = now()
    where id = ${id}`;
}
