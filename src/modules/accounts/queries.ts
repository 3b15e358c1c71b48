import type { Sql } from "../../db/client.ts";
import type { UserRole } from "../users/model.ts";
import type { UserRow } from "../users/service.ts";

const columns = (sql: Sql) => sql`u.id, u.email, u.display_name, u.role, u.disabled_at, u.created_at`;
/** In small letters, as the index has it (sql/migrations/0001_accounts.sql). */
const searched = (sql: Sql) => sql`lower(u.email_key || ' ' || u.display_name)`;
/** Shorter texts have no piece to look for in the index; most users have them anyway. */
const PIECE_CHARS = 3;

/** Newest first. `q` is looked for as it is: no character of it has a meaning. */
export async function listAccounts(
  sql: Sql,
  { q, afterId, rows }: { q: string | undefined; afterId: string | null; rows: number },
): Promise<UserRow[]> {
  const position = afterId === null ? sql`` : sql`and u.id < ${afterId}`;
  const pieces =
    q !== undefined && [...q].length >= PIECE_CHARS
      ? sql`and text_pieces(${searched(sql)}) @> text_pieces(lower(${q}))`
      : sql``;
  const match = q === undefined ? sql`` : sql`${pieces} and strpos(${searched(sql)}, lower(${q})) > 0`;
  return sql<UserRow[]>`
    select ${columns(sql)} from users u where u.deleting_at is null ${match} ${position}
    order by u.id desc limit ${rows}`;
}

export async function findAccount(sql: Sql, id: string): Promise<UserRow | undefined> {
  const [row] = await sql<UserRow[]>`select ${columns(sql)} from users u where u.id = ${id} and u.deleting_at is null`;
  return row;
}

/**
 * Locks a user together with all administrators who can log in, always in id order: of two who would demote each other
 * the second one sees what the first has done.
 */
export async function lockWithAdministrators(sql: Sql, id: string): Promise<UserRow[]> {
  return sql<UserRow[]>`
    select ${columns(sql)} from users u
    where u.deleting_at is null and (u.id = ${id} or (u.role = 'admin' and u.disabled_at is null))
    order by u.id for update`;
}

export type AccountColumns = { role?: UserRole; display_name?: string; isDisabled?: boolean };

export async function updateAccount(sql: Sql, id: string, change: AccountColumns): Promise<UserRow | undefined> {
  const { role = null, display_name = null, isDisabled = null } = change;
  const [row] = await sql<UserRow[]>`
    update users as u set updated_at = now(), role = coalesce(${role}, u.role),
      display_name = coalesce(${display_name}, u.display_name),
      disabled_at = case ${isDisabled}::boolean when true then coalesce(u.disabled_at, now()) when false then null
        else u.disabled_at end
    where u.id = ${id} returning ${columns(sql)}`;
  return row;
}
