import type { Sql } from "../db/client.ts";

/** An event that webhooks can be told of, though it is in no conversation's log. */
export type SystemEvent = {
  type: "user.created" | "user.deleted" | "webhook.disabled";
  /** The user it is about: they are told of it, beside administrators. */
  userId: string;
  /** Null: the state of the user, read when it is delivered. Never a name or an address of a person. */
  data: Record<string, string | number | boolean | null> | null;
};

/**
 * Tells webhooks of an event, inside the transaction in which it happened. Events of conversations need no call: the log tells
 * of them (sql/functions/on_events_appended.sql). The ends of answers that failed and used-up budgets are told of by functions
 * of the database too.
 */
export async function emitWebhookEvent(sql: Sql, { type, userId, data }: SystemEvent): Promise<void> {
  await sql`select add_webhook_event(${type}, ${userId}, null, ${data === null ? null : sql.json(data)}::jsonb)`;
}
