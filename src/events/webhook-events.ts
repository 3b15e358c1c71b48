import type { Sql } from "../db/client.ts";

/** A webhook event that isn't in a conversation's event log. */
export type SystemEvent = {
  type: "user.created" | "user.deleted" | "webhook.disabled";
  /** The user that the event is about. The webhooks of this user and of administrators receive it. */
  userId: string;
  /** The event's data, without names and email addresses. If null, the user's state at the time of delivery is sent. */
  data: Record<string, string | number | boolean | null> | null;
};

/**
 * Emits a webhook event. Must be called in the transaction of the change. Conversation events are emitted by the event log
 * (sql/functions/on_events_appended.sql). Database functions emit events about failed answers and exhausted budgets.
 */
export async function emitWebhookEvent(sql: Sql, { type, userId, data }: SystemEvent): Promise<void> {
  await sql`select add_webhook_event(${type}, ${userId}, null, ${data === null ? null : sql.json(data)}::jsonb)`;
}
