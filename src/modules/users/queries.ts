import type postgres from "postgres";
import type { Sql } from "../../db/client.ts";
import type { User, UserRole } from "./model.ts";

export type UserRow = {
  id: string;
  email: string;
  display_name: string;
  role: UserRole;
  disabled_at: Date | null;
  created_at: Date;
};

/** The columns of a UserRow, for queries with the alias `u` for users. */
const userColumns = (sql: Sql) => sql`u.id, u.email, u.display_name, u.role, u.disabled_at, u.created_at`;

export function mapRowToUser(row: UserRow): User {
  return {
    id: row.id,
    email: row.email,
    display_name: row.display_name,
    role: row.role,
    disabled: row.disabled_at !== null,
    created_at: row.created_at.toISOString(),
  };
}

type NewUser = {
  id: string;
  email: string;
  email_key: string;
  display_name: string;
  role: UserRole;
  /** Null if the user can only log in through an OpenID Connect issuer. */
  password_hash: string | null;
};

/** Inserts a user. Returns undefined if the email address is taken. */
export async function insertUser(sql: Sql, user: NewUser): Promise<UserRow | undefined> {
  const [row] = await sql<UserRow[]>`
    insert into users as u (id, email, email_key, display_name, role, password_hash)
    values (${user.id}, ${user.email}, ${user.email_key}, ${user.display_name}, ${user.role}, ${user.password_hash})
    on conflict (email_key) do nothing returning ${userColumns(sql)}`;
  return row;
}

/**
 * Makes the user with this email address an administrator, if the user exists. `was_promoted` is false if the user was already
 * an administrator.
 */
export async function promoteUser(
  sql: Sql,
  emailKey: string,
): Promise<(UserRow & { was_promoted: boolean }) | undefined> {
  const [row] = await sql<(UserRow & { was_promoted: boolean })[]>`
    with known as (select id, role from users where email_key = ${emailKey} for update)
    update users as u set role = 'admin', updated_at = case when u.role = 'admin' then updated_at else now() end
    from known where u.id = known.id returning ${userColumns(sql)}, known.role <> 'admin' as was_promoted`;
  return row;
}

export async function findByEmail(sql: Sql, emailKey: string): Promise<UserRow | undefined> {
  const [row] = await sql<UserRow[]>`select ${userColumns(sql)} from users u where u.email_key = ${emailKey}`;
  return row;
}

/** Returns whether a user is an administrator who can log in. */
export const isAdministrator = ({ role, disabled_at }: UserRow): boolean => role === "admin" && disabled_at === null;

export async function hasAdministrator(sql: Sql): Promise<boolean> {
  const rows = await sql`select 1 from users where role = 'admin' and disabled_at is null limit 1`;
  return rows.length > 0;
}

export async function findUser(sql: Sql, id: string): Promise<UserRow | undefined> {
  const [row] = await sql<UserRow[]>`select ${userColumns(sql)} from users u where u.id = ${id}`;
  return row;
}

export type UserRowWithPassword = UserRow & { password_hash: string | null };

export async function findCredentials(
  sql: Sql,
  key: { emailKey: string } | { id: string },
): Promise<UserRowWithPassword | undefined> {
  const condition = "id" in key ? sql`u.id = ${key.id}` : sql`u.email_key = ${key.emailKey}`;
  const [row] = await sql<
    UserRowWithPassword[]
  >`select ${userColumns(sql)}, u.password_hash from users u where ${condition}`;
  return row;
}

type ProfileValues = { display_name?: string; email?: string; email_key?: string };

export async function updateProfile(sql: Sql, id: string, values: ProfileValues): Promise<UserRow | undefined> {
  const [row] = await sql<UserRow[]>`
    update users as u set updated_at = now(), display_name = coalesce(${values.display_name ?? null}, display_name),
      email = coalesce(${values.email ?? null}, email), email_key = coalesce(${values.email_key ?? null}, email_key)
    where u.id = ${id} returning ${userColumns(sql)}`;
  return row;
}

export async function findPreferences(sql: Sql, id: string): Promise<Record<string, unknown> | undefined> {
  const [row] = await sql<{ preferences: Record<string, unknown> }[]>`select preferences from users where id = ${id}`;
  return row?.preferences;
}

export async function updatePreferences(sql: Sql, id: string, preferences: Record<string, unknown>): Promise<boolean> {
  const json = sql.json(preferences as postgres.JSONValue);
  const { count } = await sql`update users set preferences = ${json}, updated_at = now() where id = ${id}`;
  return count > 0;
}

/**
 * Prevents the user from logging in and being changed until the transaction ends.
 * @returns false if the password hash has changed.
 */
export async function lockUser(sql: Sql, id: string, passwordHash: string | undefined): Promise<boolean> {
  const hashCondition = passwordHash === undefined ? sql`` : sql`and password_hash = ${passwordHash}`;
  const rows = await sql`select 1 from users where id = ${id} ${hashCondition} for update`;
  return rows.length > 0;
}

export async function updatePasswordHash(sql: Sql, id: string, passwordHash: string): Promise<void> {
  await sql`update users set password_hash = ${passwordHash}, updated_at = now() where id = ${id}`;
}
