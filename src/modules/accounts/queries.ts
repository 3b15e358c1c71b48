import type { Sql } from "../../db/client.ts";
import type { UserRole } from "../users/model.ts";
import type { UserRow } from "../users/service.ts";

const columns = (sql: Sql) => sql`u.id, u.email, u.display_name, u.role, u.disabled_at, u.created_at`;

/** Lists accounts, newest first. `q` matches literally and case-insensitively, without wildcards. */
export async function listAccounts(
  sql: Sql,
  { q, afterId, rowsMax }: { q: string | undefined; afterId: string | null; rowsMax: number },
): Promise<UserRow[]> {
  if (q !== undefined)
    return sql<UserRow[]>`
      select ${columns(sql)} from search_users(${q}, ${afterId}, ${rowsMax}) as f (id)
      -- A subquery with a limit is planned separately (see send_messages).
      cross join lateral (select * from users x where x.id = f.id limit 1) u
      order by u.id desc`;
  const cursorCondition = afterId === null ? sql`` : sql`and u.id < ${afterId}`;
  return sql<UserRow[]>`
    select ${columns(sql)} from users u where u.deleting_at is null ${cursorCondition}
    order by u.id desc limit ${rowsMax}`;
}

export async function findAccount(sql: Sql, id: string): Promise<UserRow | undefined> {
  const [row] = await sql<UserRow[]>`select ${columns(sql)} from users u where u.id = ${id} and u.deleting_at is null`;
  return row;
}

/**
 * Locks a user and all enabled administrators, in id order to avoid deadlocks. If two administrators demote each other, the second
 * request sees the first one's change.
 */
export async function lockWithAdministrators(sql: Sql, id: string): Promise<UserRow[]> {
  return sql<UserRow[]>`
    select ${columns(sql)} from users u
    where u.deleting_at is null and (u.id = ${id} or (u.role = 'admin' and u.disabled_at is null))
    order by u.id for update`;
}

export type AccountChange = {
  role?: UserRole;
  display_name?: string;
  isDisabled?: boolean;
  email?: { address: string; key: string };
};

export async function updateAccount(sql: Sql, id: string, change: AccountChange): Promise<UserRow | undefined> {
  const { role = null, display_name = null, isDisabled = null, email } = change;
  const [row] = await sql<UserRow[]>`
    update users as u set updated_at = now(), role = coalesce(${role}, u.role),
      display_name = coalesce(${display_name}, u.display_name),
      email = coalesce(${email?.address ?? null}, u.email), email_key = coalesce(${email?.key ?? null}, u.email_key),
      disabled_at = case ${isDisabled}::boolean when true then coalesce(u.disabled_at, now()) when false then null
        else u.disabled_at end
    where u.id = ${id} returning ${columns(sql)}`;
  return row;
}
