import type { Caller } from "../../access/caller.ts";
import type { Scope } from "../../access/scopes.ts";
import type { Sql } from "../../db/client.ts";
import { EXPIRED_KEY_RETENTION_S, EXPIRED_KEYS_BATCH_ROWS, LAST_USED_INTERVAL_MS } from "./limits.ts";
import type { ApiKey } from "./model.ts";

type User = Caller["user"];

export type ApiKeyRow = {
  id: string;
  name: string;
  prefix: string;
  last_four: string;
  scopes: Scope[];
  is_service: boolean;
  expires_at: Date | null;
  last_used_at: Date | null;
  created_at: Date;
};

const columns = (sql: Sql) => sql`
  k.id, k.name, k.prefix, k.last_four, k.scopes, k.is_service, k.expires_at, k.last_used_at, k.created_at`;

export function mapToApiKey({ is_service, expires_at, last_used_at, created_at, ...row }: ApiKeyRow): ApiKey {
  return {
    ...row,
    service: is_service,
    expires_at: expires_at?.toISOString() ?? null,
    last_used_at: last_used_at?.toISOString() ?? null,
    created_at: created_at.toISOString(),
  };
}

/** A valid key with its owner. */
export type ValidKey = { id: string; scopes: Scope[]; is_service: boolean; expires_at: Date | null; owner: User };

type ValidKeyRow = Omit<ValidKey, "owner"> & { user_id: string } & Omit<User, "id">;

/** Finds a key that hasn't expired and whose owner is enabled, by hash (hex) or id. */
export async function findValidKey(sql: Sql, lookup: { hash: string } | { id: string }): Promise<ValidKey | undefined> {
  const condition = "hash" in lookup ? sql`k.hash = decode(${lookup.hash}, 'hex')` : sql`k.id = ${lookup.id}`;
  const [row] = await sql<ValidKeyRow[]>`
    select k.id, k.scopes, k.is_service, k.expires_at,
      u.id as user_id, u.email, u.display_name, u.role, u.created_at
    from api_keys k join users u on u.id = k.user_id
    where ${condition} and u.disabled_at is null and (k.expires_at is null or k.expires_at > now())`;
  if (!row) return undefined;
  const { id, scopes, is_service, expires_at, user_id, ...user } = row;
  return { id, scopes, is_service, expires_at, owner: { id: user_id, ...user } };
}

/** Finds a user that service keys may act for. Disabled users and administrators are excluded. */
export async function findTargetUser(sql: Sql, userId: string): Promise<User | undefined> {
  const [row] = await sql<User[]>`
    select id, email, display_name, role, created_at from users
    where id = ${userId} and disabled_at is null and role <> 'admin'`;
  return row;
}

/** A key, and the user it acts for. */
export type KeyHolder = { keyId: string; userId: string };

/** Lists the holders whose key no longer grants access. Expiry is checked elsewhere, without a query. */
export async function listRevokedHolders(sql: Sql, holders: readonly KeyHolder[]): Promise<KeyHolder[]> {
  return await sql<KeyHolder[]>`
    select h.key_id as "keyId", h.user_id as "userId"
    from unnest(${holders.map(({ keyId }) => keyId)}::uuid[], ${holders.map(({ userId }) => userId)}::uuid[])
      as h (key_id, user_id)
    where not exists (
      select 1 from api_keys k join users o on o.id = k.user_id join users u on u.id = h.user_id
      where k.id = h.key_id and o.disabled_at is null and u.disabled_at is null
        and (u.id = o.id or (k.is_service and o.role = 'admin' and u.role <> 'admin')))`;
}

export type KeyOwner = { id: string; email: string; role: "user" | "admin"; is_disabled: boolean; keys: number };

/**
 * Locks the owner of a new key and counts their keys. Until the transaction ends, no other request can create a key for them or
 * change their role.
 */
export async function lockOwner(sql: Sql, userId: string): Promise<KeyOwner | undefined> {
  await sql`select 1 from users where id = ${userId} for no key update`;
  const [row] = await sql<KeyOwner[]>`
    select u.id, u.email, u.role, u.disabled_at is not null as is_disabled,
      (select count(*)::int from api_keys k where k.user_id = u.id) as keys
    from users u where u.id = ${userId}`;
  return row;
}

/** Finds the user with this email address, or the first administrator if `emailKey` is null. */
export async function findOwnerId(sql: Sql, emailKey: string | null): Promise<string | undefined> {
  const [row] = await (emailKey === null
    ? sql<{ id: string }[]>`
        select id from users where role = 'admin' and disabled_at is null order by created_at, id limit 1`
    : sql<{ id: string }[]>`select id from users where email_key = ${emailKey}`);
  return row?.id;
}

type NewKey = {
  id: string;
  userId: string;
  name: string;
  hash: string;
  prefix: string;
  lastFour: string;
  scopes: readonly Scope[];
  isService: boolean;
  expiresAt: Date | null;
};

export async function insertKey(sql: Sql, key: NewKey): Promise<ApiKeyRow> {
  const [row] = await sql<ApiKeyRow[]>`
    insert into api_keys as k (id, user_id, name, hash, prefix, last_four, scopes, is_service, expires_at)
    values (${key.id}, ${key.userId}, ${key.name}, decode(${key.hash}, 'hex'), ${key.prefix}, ${key.lastFour},
      ${[...key.scopes]}::text[], ${key.isService}, ${key.expiresAt})
    returning ${columns(sql)}`;
  if (!row) throw new Error("The insert returned no row.");
  return row;
}

/** Finds one of the user's keys. */
export async function findKey(sql: Sql, id: string, userId: string): Promise<ApiKeyRow | undefined> {
  const [row] = await sql<ApiKeyRow[]>`
    select ${columns(sql)} from api_keys k where k.id = ${id} and k.user_id = ${userId}`;
  return row;
}

/** Lists the user's keys, newest first. `beforeId` is the last key of the previous page. */
export async function listKeys(sql: Sql, userId: string, beforeId: string | null, limit: number): Promise<ApiKeyRow[]> {
  const beforeCondition = beforeId === null ? sql`` : sql`and k.id < ${beforeId}`;
  return await sql<ApiKeyRow[]>`
    select ${columns(sql)} from api_keys k where k.user_id = ${userId} ${beforeCondition} order by k.id desc limit ${limit}`;
}

/** Deletes one of the user's keys. @returns its hash, or undefined if the user has no such key. */
export async function deleteKey(sql: Sql, id: string, userId: string): Promise<string | undefined> {
  const [row] = await sql<{ hash: string }[]>`
    with deleted as (delete from api_keys where id = ${id} and user_id = ${userId} returning id, hash),
    forgotten as (delete from budget_windows w using deleted d where w.scope = 'key' and w.scope_id = d.id)
    select encode(hash, 'hex') as hash from deleted`;
  return row?.hash;
}

/** A deleted key and its hash. */
export type DeletedKey = { id: string; hash: string };

/** Deletes all of the user's keys. A quota limits their number. */
export async function deleteKeys(sql: Sql, userId: string): Promise<DeletedKey[]> {
  return await sql<DeletedKey[]>`
    with deleted as (delete from api_keys where user_id = ${userId} returning id, hash),
    forgotten as (delete from budget_windows w using deleted d where w.scope = 'key' and w.scope_id = d.id)
    select id, encode(hash, 'hex') as hash from deleted`;
}

export async function countActiveKeys(sql: Sql, userId: string): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int as count from api_keys where user_id = ${userId} and (expires_at is null or expires_at > now())`;
  return row?.count ?? 0;
}

/** Stores the time of the last use, unless another instance has just stored it. */
export async function recordLastUse(sql: Sql, id: string): Promise<void> {
  await sql`
    update api_keys set last_used_at = now() where id = ${id}
      and (last_used_at is null or last_used_at < now() - ${LAST_USED_INTERVAL_MS} * interval '1 ms')`;
}

export async function deleteExpiredKeys(sql: Sql): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    with deleted as (
      delete from api_keys where ctid = any (array(
        select ctid from api_keys where expires_at < now() - make_interval(secs => ${EXPIRED_KEY_RETENTION_S}::float8)
        order by expires_at limit ${EXPIRED_KEYS_BATCH_ROWS} for update skip locked))
      returning id
    ),
    -- Locked budget windows are kept until they expire.
    forgotten as (
      delete from budget_windows where ctid = any (array(
        select w.ctid from deleted d join budget_windows w on w.scope = 'key' and w.scope_id = d.id
        for update of w skip locked))
    )
    select count(*)::int as count from deleted`;
  return row?.count ?? 0;
}
