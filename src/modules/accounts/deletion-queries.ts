import type { Sql } from "../../db/client.ts";

/** The number of rows changed per statement. */
const BATCH_ROWS = 1_000;
/** The number of days of analytics from which a user is removed per batch. No analytics are counted while a batch runs. */
const BATCH_DAYS = 30;

/** Removes the user's name, email address and password, so that nobody can log in as them. */
export async function beginDeletion(sql: Sql, id: string, replacementName: string): Promise<void> {
  // Replaces the email key with the id, which can't equal an email address. The address can then be reused immediately.
  await sql`
    update users set deleting_at = now(), disabled_at = now(), updated_at = now(), role = 'user', email = '',
      email_key = id::text, display_name = ${replacementName}, password_hash = null, preferences = '{}'
    where id = ${id}`;
}

export async function isBeingDeleted(sql: Sql, id: string): Promise<boolean> {
  return (await sql`select 1 from users where id = ${id} and deleting_at is not null`).length > 0;
}

/**
 * Deletes a batch from each table that can be large. All other rows, and rows that are currently locked, are deleted together with
 * the user.
 * @returns whether there may be more.
 */
export async function deleteUserRows(sql: Sql, userId: string): Promise<boolean> {
  const results = [
    await sql`
      delete from idempotency_keys where name = any (array(
        select name from idempotency_keys where user_id = ${userId} limit ${BATCH_ROWS} for update skip locked))`,
    await sql`
      delete from feedback where ctid = any (array(
        select ctid from feedback where user_id = ${userId} limit ${BATCH_ROWS} for update skip locked))`,
    await sql`
      delete from former_members where ctid = any (array(
        select ctid from former_members where user_id = ${userId} limit ${BATCH_ROWS} for update skip locked))`,
    await sql`
      delete from webhook_deliveries where id = any (array(
        select d.id from webhooks w join webhook_deliveries d on d.webhook_id = w.id
        where w.user_id = ${userId} limit ${BATCH_ROWS} for update of d skip locked))`,
    await sql`
      delete from import_pieces where (import_id, n) in (
        select p.import_id, p.n from imports i join import_pieces p on p.import_id = i.id
        where i.user_id = ${userId} limit ${BATCH_ROWS} for update of p skip locked)`,
    await sql`
      delete from import_sources where ctid = any (array(
        select ctid from import_sources where user_id = ${userId} limit ${BATCH_ROWS} for update skip locked))`,
    // Ended sessions are kept for a day. A live session, from a login in progress, must stay linked to its user.
    await sql`
      update sessions set user_id = null where id = any (array(
        select id from sessions where user_id = ${userId} and revoked_at is not null
        limit ${BATCH_ROWS} for update skip locked))`,
  ];
  const [analytics] = await sql<{ has_more: boolean }[]>`
    select forget_analytics_user(${userId}, ${BATCH_DAYS}) as has_more`;
  return (analytics?.has_more ?? false) || results.some(({ count }) => count === BATCH_ROWS);
}

/**
 * Removes the user's name from a batch of stored events. Locked rows are skipped, because they are being deleted with their
 * conversation.
 * @returns whether there may be more.
 */
export async function removeNameFromEvents(sql: Sql, userId: string, replacementName: string): Promise<boolean> {
  const { count } = await sql`
    update events e set data = e.data || jsonb_build_object('display_name', ${replacementName}::text)
    from (
      select conversation_id, seq from events
      where type in ('member.added', 'member.removed') and data ->> 'user_id' = ${userId}
        and data ->> 'display_name' <> ${replacementName}
      limit ${BATCH_ROWS} for update skip locked
    ) named
    where e.conversation_id = named.conversation_id and e.seq = named.seq`;
  return count > 0;
}

/**
 * Locks the user's row, so that no new row can refer to it until the transaction ends.
 * @returns whether the user has no more memberships.
 */
export async function lockForDeletion(sql: Sql, id: string): Promise<boolean> {
  await sql`select 1 from users where id = ${id} and deleting_at is not null for update`;
  const memberships = await sql`select 1 from members where user_id = ${id} limit 1`;
  return memberships.length === 0;
}

/** Deletes the user, with all rows that belong only to them. This is the last step. */
export async function deleteUser(sql: Sql, id: string): Promise<void> {
  await sql`delete from budget_windows where scope = 'user' and scope_id = ${id}`;
  await sql`delete from users where id = ${id} and deleting_at is not null`;
}
