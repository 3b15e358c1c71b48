import type { Sql } from "../../../db/client.ts";

export type IdentityRow = { id: string; issuer: string; subject: string; created_at: Date };
type Subject = { issuer: string; subject: string };

export async function findIdentityUser(sql: Sql, { issuer, subject }: Subject): Promise<string | undefined> {
  const [row] = await sql<{ user_id: string }[]>`
    select user_id from identities where issuer = ${issuer} and subject = ${subject}`;
  return row?.user_id;
}

/** Inserts an identity. Waits for concurrent inserts of the same identity. @returns undefined if it is already linked. */
export async function insertIdentity(
  sql: Sql,
  { id, issuer, subject, userId }: Subject & { id: string; userId: string },
): Promise<IdentityRow | undefined> {
  const [row] = await sql<IdentityRow[]>`
    insert into identities (id, issuer, subject, user_id) values (${id}, ${issuer}, ${subject}, ${userId})
    on conflict (issuer, subject) do nothing returning id, issuer, subject, created_at`;
  return row;
}

/** Lists the user's identities, oldest first. The list isn't paged, because it has at most IDENTITIES_PER_USER_MAX entries. */
export async function listIdentities(sql: Sql, userId: string): Promise<IdentityRow[]> {
  return await sql<IdentityRow[]>`
    select id, issuer, subject, created_at from identities where user_id = ${userId} order by created_at, id`;
}

export async function deleteIdentity(sql: Sql, id: string, userId: string): Promise<boolean> {
  const { count } = await sql`delete from identities where id = ${id} and user_id = ${userId}`;
  return count > 0;
}

/** Finds the session of a token that is used directly as a credential, even if the session isn't live. */
export async function findTokenSession(sql: Sql, tokenKey: Uint8Array): Promise<string | undefined> {
  const [row] = await sql<{ id: string }[]>`
    select id from sessions where token_key = ${tokenKey} and refresh_key is null`;
  return row?.id;
}

/** Returns whether a session that was opened with this token was ended before it expired. */
export async function isTokenRevoked(sql: Sql, tokenKey: Uint8Array): Promise<boolean> {
  const rows = await sql`select 1 from sessions where token_key = ${tokenKey} and revoked_at is not null limit 1`;
  return rows.length > 0;
}

type NewTokenSession = Subject & {
  id: string;
  userId: string;
  tokenKey: Uint8Array;
  expiresAtMs: number;
  authenticatedAtMs: number;
  ipAddress: string | null;
};

/**
 * Opens a session for a token. Waits for concurrent changes to the user.
 * @returns false if the user is disabled, deleted or no longer linked, if a session that was opened with this token was ended, or if
 * the token already has a session.
 */
export async function insertTokenSession(sql: Sql, session: NewTokenSession): Promise<boolean> {
  const { id, userId, issuer, subject, tokenKey, ipAddress } = session;
  const expiresAt = new Date(session.expiresAtMs);
  const authenticatedAt = new Date(session.authenticatedAtMs);
  const { count } = await sql`
    insert into sessions (id, user_id, token_key, token_expires_at, expires_at, ip_address, authenticated_at)
    select ${id}::uuid, u.id, ${tokenKey}::bytea, ${expiresAt}::timestamptz, ${expiresAt}::timestamptz, ${ipAddress}::text,
      ${authenticatedAt}::timestamptz
    from users u join identities i on i.user_id = u.id and i.issuer = ${issuer} and i.subject = ${subject}
    where u.id = ${userId} and u.disabled_at is null
      and not exists (select 1 from sessions e where e.token_key = ${tokenKey} and e.revoked_at is not null)
    for share of u, i
    on conflict (token_key) where refresh_key is null do nothing`;
  return count > 0;
}

/** Ends a user's sessions that were opened with issuers' tokens. @returns the ids of the sessions. */
export async function endIssuerSessions(sql: Sql, userId: string): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    update sessions set revoked_at = now(), revoked_reason = 'ended'
    where user_id = ${userId} and token_key is not null and revoked_at is null and expires_at > now() returning id`;
  return rows.map(({ id }) => id);
}
