import type { Sql } from "../../db/client.ts";

/** Rows that one statement changes. */
const BATCH_ROWS = 1_000;

/** From here on the user has no name, no address and no password, and nobody can be taken for them. */
export async function beginDeletion(sql: Sql, id: string, shownName: string): Promise<void> {
  // The address is free again at once; no address looks like an id.
  await sql`
    update users set deleting_at = now(), disabled_at = now(), updated_at = now(), role = 'user', email = '',
      email_key = id::text, display_name = ${shownName}, password_hash = null, preferences = '{}'
    where id = ${id}`;
}

/** Says that somebody is at it. @returns false when the user is gone. */
export async function touchDeletion(sql: Sql, id: string): Promise<boolean> {
  const { count } = await sql`update users set deleting_at = now() where id = ${id} and deleting_at is not null`;
  return count > 0;
}

/** Deletions that nobody has been at for so long. */
export async function listStaleDeletions(sql: Sql, staleMs: number, rows: number): Promise<string[]> {
  const found = await sql<{ id: string }[]>`
    select id from users where deleting_at < now() - ${staleMs} * interval '1 ms' order by deleting_at limit ${rows}`;
  return found.map(({ id }) => id);
}

/**
 * Takes the user's prompts out of the conversations that use them, and deletes those that none uses any more.
 * Conversations are locked before, in their order, since a reference that is set to null would lock them in any.
 * @returns whether there may be more.
 */
export async function deletePrompts(sql: Sql, userId: string): Promise<boolean> {
  const { count } = await sql`
    with used as materialized (
      select c.id from conversations c
      where c.prompt_id in (select p.id from prompts p where p.user_id = ${userId})
      order by c.id limit ${BATCH_ROWS} for update
    )
    update conversations c set prompt_id = null from used where c.id = used.id`;
  if (count > 0) return true;
  const deleted = await sql`
    delete from prompts where id in (select id from prompts where user_id = ${userId} limit ${BATCH_ROWS})`;
  return deleted.count > 0;
}

/**
 * Takes the user's name out of stored events. What is locked is being deleted with its conversation.
 * @returns whether there may be more.
 */
export async function forgetName(sql: Sql, userId: string, shownName: string): Promise<boolean> {
  const { count } = await sql`
    update events e set data = e.data || jsonb_build_object('display_name', ${shownName}::text)
    from (
      select conversation_id, seq from events
      where type in ('member.added', 'member.removed') and data ->> 'user_id' = ${userId}
        and data ->> 'display_name' <> ${shownName}
      limit ${BATCH_ROWS} for update skip locked
    ) named
    where e.conversation_id = named.conversation_id and e.seq = named.seq`;
  return count > 0;
}

/** Keeps everybody from referring to the user until the transaction ends. @returns whether they are in no conversation. */
export async function lockDeleted(sql: Sql, id: string): Promise<boolean> {
  await sql`select 1 from users where id = ${id} and deleting_at is not null for update`;
  const memberships = await sql`select 1 from members where user_id = ${id} limit 1`;
  return memberships.length === 0;
}

/** The end: the user, and with them whatever belongs to them alone. */
export async function deleteUser(sql: Sql, id: string): Promise<void> {
  await sql`delete from budget_windows where scope = 'user' and scope_id = ${id}`;
  await sql`delete from users where id = ${id} and deleting_at is not null`;
}
