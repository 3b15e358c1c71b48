import { requireRow, type Sql } from "../../db/client.ts";
import type { DeliveryStatus, Webhook, WebhookDelivery } from "./model.ts";

/** Maximum deliveries deleted per statement. */
const DELETE_BATCH_DELIVERIES = 2_000;

type WithDates<T, K extends keyof T> = Omit<T, K> & { [Name in K]: null extends T[Name] ? Date | null : Date };

export type WebhookRow = WithDates<
  Omit<Webhook, "disabled">,
  "disabled_at" | "previous_secret_until" | "created_at" | "updated_at"
>;
export type DeliveryRow = WithDates<
  WebhookDelivery,
  "next_attempt_at" | "created_at" | "last_attempt_at" | "finished_at"
>;

const columns = (sql: Sql) => sql`
  w.id, w.url, w.events, w.description, w.disabled_at, w.disabled_reason,
  case when w.previous_secret_until > now() then w.previous_secret_until end as previous_secret_until,
  w.created_at, w.updated_at`;

/** Finds one of this user's webhooks. Returns undefined for other users' webhooks. */
export async function findWebhook(sql: Sql, id: string, userId: string): Promise<WebhookRow | undefined> {
  const [row] = await sql<WebhookRow[]>`
    select ${columns(sql)} from webhooks w where w.id = ${id} and w.user_id = ${userId} and w.deleted_at is null`;
  return row;
}

/** Finds one of this user's webhooks, and prevents changes to it until the transaction ends. */
export async function lockWebhook(sql: Sql, id: string, userId: string): Promise<WebhookRow | undefined> {
  const [row] = await sql<WebhookRow[]>`
    select ${columns(sql)} from webhooks w
    where w.id = ${id} and w.user_id = ${userId} and w.deleted_at is null for no key update`;
  return row;
}

/** Lists the user's webhooks, newest first. @param beforeId the last webhook of the previous page. */
export async function listWebhooks(
  sql: Sql,
  userId: string,
  beforeId: string | null,
  limit: number,
): Promise<WebhookRow[]> {
  const beforeCondition = beforeId === null ? sql`` : sql`and w.id < ${beforeId}`;
  return await sql<WebhookRow[]>`
    select ${columns(sql)} from webhooks w where w.user_id = ${userId} and w.deleted_at is null ${beforeCondition}
    order by w.id desc limit ${limit}`;
}

/** Returns the number of a user's webhooks. Prevents new webhooks for this user until the transaction ends. */
export async function lockAndCountWebhooks(sql: Sql, userId: string): Promise<number> {
  await sql`select 1 from users where id = ${userId} for no key update`;
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int as count from webhooks where user_id = ${userId} and deleted_at is null`;
  return row?.count ?? 0;
}

type NewWebhook = {
  id: string;
  userId: string;
  url: string;
  events: readonly string[];
  description: string | null;
  sealedSecret: string;
};

export async function insertWebhook(sql: Sql, webhook: NewWebhook): Promise<WebhookRow> {
  const [row] = await sql<WebhookRow[]>`
    insert into webhooks as w (id, user_id, url, events, description, secret)
    values (${webhook.id}, ${webhook.userId}, ${webhook.url}, ${[...webhook.events]}::text[], ${webhook.description},
      ${webhook.sealedSecret})
    returning ${columns(sql)}`;
  return requireRow(row, "webhook");
}

type WebhookChange = Pick<WebhookRow, "url" | "events" | "description">;

export async function updateWebhook(
  sql: Sql,
  id: string,
  { url, events, description }: WebhookChange,
): Promise<WebhookRow> {
  const [row] = await sql<WebhookRow[]>`
    update webhooks w set url = ${url}, events = ${[...events]}::text[], description = ${description}, updated_at = now()
    where w.id = ${id} returning ${columns(sql)}`;
  return requireRow(row, "webhook");
}

/** Stores a new secret and keeps the current one as the previous secret. An older secret becomes invalid. */
export async function rotateSecret(
  sql: Sql,
  id: string,
  sealedSecret: string,
  previousTtlS: number,
): Promise<WebhookRow> {
  const [row] = await sql<WebhookRow[]>`
    update webhooks w set secret = ${sealedSecret}, previous_secret = w.secret,
      previous_secret_until = now() + make_interval(secs => ${previousTtlS}::float8), updated_at = now()
    where w.id = ${id} returning ${columns(sql)}`;
  return requireRow(row, "webhook");
}

/** Marks a webhook as deleted. It is not found after that, and receives no more deliveries. */
export async function markWebhookDeleted(sql: Sql, id: string): Promise<void> {
  await sql`
    update webhooks set deleted_at = now(), disabled_at = coalesce(disabled_at, now()),
      disabled_reason = coalesce(disabled_reason, 'user')
    where id = ${id}`;
}

/** A webhook, or all webhooks of a user. */
export type WebhookSelection = { id: string } | { userId: string };

/** Deletes a batch of deliveries, except locked ones. Returns whether there may be more. */
export async function deleteDeliveries(sql: Sql, selection: WebhookSelection): Promise<boolean> {
  const { count } = await sql`
    delete from webhook_deliveries where id = any (array(
      select d.id from webhooks w join webhook_deliveries d on d.webhook_id = w.id
      where ${"id" in selection ? sql`w.id = ${selection.id}` : sql`w.user_id = ${selection.userId}`}
      limit ${DELETE_BATCH_DELIVERIES} for update of d skip locked))`;
  return count === DELETE_BATCH_DELIVERIES;
}

/** Deletes a webhook that is marked as deleted, including its remaining deliveries. */
export async function deleteWebhook(sql: Sql, id: string): Promise<void> {
  await sql`delete from webhooks where id = ${id} and deleted_at is not null`;
}

export async function webhookExists(sql: Sql, id: string): Promise<boolean> {
  return (await sql`select 1 from webhooks where id = ${id}`).length > 0;
}

const deliveryColumns = (sql: Sql) => sql`
  d.id, d.type, d.conversation_id, d.seq, d.status, d.attempts, d.next_attempt_at, d.response_status, d.response_body,
  d.error, d.duration_ms, d.created_at, d.last_attempt_at, d.finished_at`;

/** Finds a delivery of a webhook. */
export async function findDelivery(sql: Sql, webhookId: string, id: string): Promise<DeliveryRow | undefined> {
  const [row] = await sql<DeliveryRow[]>`
    select ${deliveryColumns(sql)} from webhook_deliveries d where d.id = ${id} and d.webhook_id = ${webhookId}`;
  return row;
}

type DeliveryPage = { status: DeliveryStatus | undefined; beforeId: string | null; limit: number };

/** Lists a webhook's deliveries, newest first. `beforeId` is the last delivery of the previous page. */
export async function listDeliveries(
  sql: Sql,
  webhookId: string,
  { status, beforeId, limit }: DeliveryPage,
): Promise<DeliveryRow[]> {
  return await sql<DeliveryRow[]>`
    select ${deliveryColumns(sql)} from webhook_deliveries d where d.webhook_id = ${webhookId}
      ${status === undefined ? sql`` : sql`and d.status = ${status}`}
      ${beforeId === null ? sql`` : sql`and d.id < ${beforeId}`}
    order by d.id desc limit ${limit}`;
}

export function mapToWebhook(row: WebhookRow): Webhook {
  const { disabled_at, previous_secret_until } = row;
  return {
    id: row.id,
    url: row.url,
    events: row.events,
    description: row.description,
    disabled: disabled_at !== null,
    disabled_reason: row.disabled_reason,
    disabled_at: disabled_at?.toISOString() ?? null,
    previous_secret_until: previous_secret_until?.toISOString() ?? null,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}

export function mapToDelivery(row: DeliveryRow): WebhookDelivery {
  return {
    ...row,
    next_attempt_at: row.next_attempt_at?.toISOString() ?? null,
    created_at: row.created_at.toISOString(),
    last_attempt_at: row.last_attempt_at?.toISOString() ?? null,
    finished_at: row.finished_at?.toISOString() ?? null,
  };
}
