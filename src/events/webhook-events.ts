import type { Sql } from "../db/client.ts";

/** A webhook event that is not in any conversation's log. */
export type SystemEvent = {
  type: "user.created" | "user.deleted" | "webhook.disabled";
  /** The user concerned, who is notified in addition to administrators. */
  userId: string;
  /** Null: the user's state, read at delivery. Never contains personal names or addresses. */
  data: Record<string, string | number | boolean | null> | null;
};

/**
 * Emits a webhook event, inside the transaction of the change. Events of conversations need no call: the log emits them
 * (sql/functions/on_events_appended.sql). Functions of the database also emit failed answers and exhausted budgets.
 */
export async function emitWebhookEvent(sql: Sql, { type, userId, data }: SystemEvent): Promise<void> {
  await sql`select add_webhook_event(${type}, ${userId}, null, ${data === null ? null : sql.json(data)}::jsonb)`;
}
