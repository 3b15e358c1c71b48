import type { Sql } from "../db/client.ts";

/** A webhook event that isn't in the log of a conversation. */
export type SystemEvent = {
  type: "user.created" | "user.deleted" | "webhook.disabled";
  /** The user that the event is about, whose webhooks receive it, as those of administrators do. */
  userId: string;
  /** The event's data; null: the user's state at the time of delivery. Must not contain people's names or e-mail addresses. */
  data: Record<string, string | number | boolean | null> | null;
};

/**
 * Emits a webhook event, in the transaction of the change. Don't call this for events of conversations, which the log emits
 * (sql/functions/on_events_appended.sql). Database functions also emit events for failed answers and used-up budgets.
 */
export async function emitWebhookEvent(sql: Sql, { type, userId, data }: SystemEvent): Promise<void> {
  await sql`select add_webhook_event(${type}, ${userId}, null, ${data === null ? null : sql.json(data)}::jsonb)`;
}
