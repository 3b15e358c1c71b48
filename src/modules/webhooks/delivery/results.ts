import type { Sql } from "../../../db/client.ts";
import { emitWebhookEvent } from "../../../events/webhook-events.ts";
import type { AuditService } from "../../audit/service.ts";
import type { AttemptResult } from "./attempt.ts";
import type { Endpoint } from "./leases.ts";

/** Pending deliveries of disabled webhooks that are failed per statement. */
export const ABANDON_BATCH_ROWS = 1_000;

export type EndpointResult = AttemptResult & { endpoint: Endpoint };

/**
 * Stores the results of attempts, unless another instance has acquired the endpoint's lease since. Call it in a
 * transaction that has locked the webhooks to be disabled or paused.
 */
export async function storeResults(sql: Sql, owner: string, results: readonly EndpointResult[]): Promise<void> {
  const collect = <T>(read: (result: EndpointResult) => T): T[] => results.map(read);
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
      ${collect(({ endpoint }) => endpoint.id)}::uuid[], ${collect(({ endpoint }) => endpoint.fence)}::int[],
      ${collect(({ deliveryId }) => deliveryId)}::uuid[], ${collect(({ outcome }) => outcome)}::text[],
      ${collect(({ isAttempted }) => Number(isAttempted))}::int[], ${collect(({ retryMs }) => retryMs)}::float8[],
      ${collect(({ responseStatus }) => responseStatus)}::int[], ${collect(({ responseBody }) => responseBody)}::text[],
      ${collect(({ error }) => error)}::text[], ${collect(({ durationMs }) => durationMs)}::int[]
    ) as r (webhook_id, fence, id, outcome, is_attempted, retry_ms, response_status, response_body, error, duration_ms)
    join webhooks w on w.id = r.webhook_id and w.owner = ${owner} and w.fence = r.fence
    where d.id = r.id`;
}

/** Locks webhooks in id order. Call it before locking their deliveries, to avoid deadlocks. */
export async function lockWebhooksById(sql: Sql, ids: readonly string[]): Promise<void> {
  await sql`select 1 from webhooks where id = any (${[...ids]}::uuid[]) order by id for no key update`;
}

/** Pauses all deliveries, as the receiver requested. */
export async function pauseWebhook(sql: Sql, id: string, ms: number): Promise<void> {
  await sql`
    update webhooks set paused_until = greatest(paused_until, now() + ${ms}::float8 * interval '1 ms') where id = ${id}`;
}

type DisabledReason = "gone" | "exhausted" | "user";

/**
 * Disables a webhook and notifies its owner's other webhooks. Its pending deliveries fail: a first batch immediately,
 * the rest later.
 * @returns whether it was enabled.
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
  await abandonDeliveries(sql, ABANDON_BATCH_ROWS, id);
  return true;
}

/** Disables a webhook without a user's request, and records that in the audit log. @returns whether it was enabled. */
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

/** Fails pending deliveries of disabled webhooks. @param id limits this to one webhook. @returns how many. */
export async function abandonDeliveries(sql: Sql, rows: number, id: string | null = null): Promise<number> {
  const { count } = await sql`
    update webhook_deliveries set status = 'failed', next_attempt_at = null, finished_at = now(),
      error = coalesce(error, 'The webhook was disabled.')
    where id = any (array(
      select d.id from webhooks w join webhook_deliveries d on d.webhook_id = w.id and d.status = 'pending'
      where w.disabled_at is not null ${id === null ? sql`` : sql`and w.id = ${id}`}
      limit ${rows} for update of d skip locked))`;
  return count;
}

export async function hasAbandoned(sql: Sql): Promise<boolean> {
  const [row] = await sql<{ isDue: boolean }[]>`
    select exists (
      select from webhooks w where w.disabled_at is not null and exists (
        select from webhook_deliveries d where d.webhook_id = w.id and d.status = 'pending')) as "isDue"`;
  return row?.isDue ?? false;
}
