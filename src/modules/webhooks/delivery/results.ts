import type { Sql } from "../../../db/client.ts";
import { emitWebhookEvent } from "../../../events/webhook-events.ts";
import type { AuditService } from "../../audit/service.ts";
import type { AttemptResult } from "./attempt.ts";
import type { Endpoint } from "./leases.ts";

/** Maximum pending deliveries of disabled webhooks that a statement marks as failed. */
export const FAIL_BATCH_ROWS = 1_000;

export type EndpointResult = AttemptResult & { endpoint: Endpoint };

/**
 * Stores the results of attempts, except for endpoints whose lease another instance has acquired. The transaction must have locked
 * the webhooks that it disables or pauses.
 */
export async function storeResults(sql: Sql, owner: string, results: readonly EndpointResult[]): Promise<void> {
  const collectColumn = <T>(getValue: (result: EndpointResult) => T): T[] => results.map(getValue);
  await sql`
    update webhook_deliveries d set
      status = case r.outcome when 'retried' then 'pending' else r.outcome end,
      attempts = d.attempts + r.is_attempted,
      next_attempt_at = now() + r.retry_ms * interval '1 ms',
      last_attempt_at = case when r.is_attempted = 1 then now() else d.last_attempt_at end,
      response_status = r.response_status, response_body = r.response_body, error = r.error,
      duration_ms = r.duration_ms,
      finished_at = case when r.outcome <> 'retried' then now() end
    from unnest(
      ${collectColumn(({ endpoint }) => endpoint.id)}::uuid[], ${collectColumn(({ endpoint }) => endpoint.fence)}::int[],
      ${collectColumn(({ deliveryId }) => deliveryId)}::uuid[], ${collectColumn(({ outcome }) => outcome)}::text[],
      ${collectColumn(({ isAttempted }) => Number(isAttempted))}::int[], ${collectColumn(({ retryMs }) => retryMs)}::float8[],
      ${collectColumn(({ responseStatus }) => responseStatus)}::int[], ${collectColumn(({ responseBody }) => responseBody)}::text[],
      ${collectColumn(({ error }) => error)}::text[], ${collectColumn(({ durationMs }) => durationMs)}::int[]
    ) as r (webhook_id, fence, id, outcome, is_attempted, retry_ms, response_status, response_body, error, duration_ms)
    join webhooks w on w.id = r.webhook_id and w.owner = ${owner} and w.fence = r.fence
    where d.id = r.id`;
}

/** Locks webhooks in id order. To avoid deadlocks, call this before locking their deliveries. */
export async function lockWebhooksById(sql: Sql, ids: readonly string[]): Promise<void> {
  await sql`select 1 from webhooks where id = any (${[...ids]}::uuid[]) order by id for no key update`;
}

/** Pauses all deliveries, as the receiver requested. */
export async function pauseWebhook(sql: Sql, id: string, pauseMs: number): Promise<void> {
  await sql`
    update webhooks set paused_until = greatest(paused_until, now() + ${pauseMs}::float8 * interval '1 ms') where id = ${id}`;
}

type DisabledReason = "gone" | "exhausted" | "user";

/**
 * Disables a webhook and notifies its owner's other webhooks. A first batch of its pending deliveries is marked as failed
 * immediately; a job marks the remaining ones later.
 * @returns whether the webhook was enabled before.
 */
export async function disableWebhook(sql: Sql, id: string, reason: DisabledReason): Promise<boolean> {
  const [webhook] = await sql<{ user_id: string }[]>`
    update webhooks set disabled_at = now(), disabled_reason = ${reason}, updated_at = now()
    where id = ${id} and disabled_at is null returning user_id`;
  if (!webhook) return false;
  await emitWebhookEvent(sql, {
    type: "webhook.disabled",
    userId: webhook.user_id,
    data: { webhook_id: id, reason },
  });
  await failDeliveries(sql, FAIL_BATCH_ROWS, id);
  return true;
}

/** Disables a webhook because of failed deliveries, and records that in the audit log. Returns whether it was enabled before. */
export async function disableAutomatically(
  sql: Sql,
  audit: Pick<AuditService, "record">,
  id: string,
  reason: "gone" | "exhausted",
): Promise<boolean> {
  if (!(await disableWebhook(sql, id, reason))) return false;
  const target = { type: "webhook", id } as const;
  await audit.record(sql, {
    action: "webhook.disabled",
    actorId: null,
    credentialId: null,
    target,
    ipAddress: null,
    details: { reason },
  });
  return true;
}

/**
 * Marks up to `limit` pending deliveries of disabled webhooks as failed. Returns their number.
 * @param id the webhook whose deliveries are marked; null for all disabled webhooks.
 */
export async function failDeliveries(sql: Sql, limit: number, id: string | null = null): Promise<number> {
  const { count } = await sql`
    update webhook_deliveries set status = 'failed', next_attempt_at = null, finished_at = now(),
      error = coalesce(error, 'The webhook was disabled.')
    where id = any (array(
      select d.id from webhooks w join webhook_deliveries d on d.webhook_id = w.id and d.status = 'pending'
      where w.disabled_at is not null ${id === null ? sql`` : sql`and w.id = ${id}`}
      limit ${limit} for update of d skip locked))`;
  return count;
}

export async function hasDeliveriesToFail(sql: Sql): Promise<boolean> {
  const [row] = await sql<{ isDue: boolean }[]>`
    select exists (
      select from webhooks w where w.disabled_at is not null and exists (
        select from webhook_deliveries d where d.webhook_id = w.id and d.status = 'pending')) as "isDue"`;
  return row?.isDue ?? false;
}
