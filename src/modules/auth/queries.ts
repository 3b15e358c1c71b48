import type { Sql } from "../../db/client.ts";
import type { UserRole } from "../users/model.ts";
import {
  ENDED_SESSIONS_BATCH_ROWS,
  REFRESH_GRACE_S,
  SESSION_IDLE_TIMEOUT_S,
  SESSION_LIFETIME_MAX_S,
} from "./limits.ts";
import type { Client, SessionEndReason } from "./model.ts";

// All times are from the database's clock, so that instances agree on them.
const toInterval = (sql: Sql, seconds: number) => sql`make_interval(secs => ${seconds}::float8)`;
const liveCondition = (sql: Sql) => sql`s.revoked_at is null and s.expires_at > now()`;

/** The verified credentials of a login: a password, or an issuer's token. */
export type LoginProof = { passwordHash: string } | TokenProof;
type TokenProof = {
  issuer: string;
  subject: string;
  tokenKey: Uint8Array;
  expiresAtMs: number;
  authenticatedAtMs: number;
};
type NewSession = { id: string; userId: string; proof: LoginProof; refreshKey: Uint8Array; client: Client };

/**
 * Opens a session. Waits for concurrent changes to the user, so that the login takes them into account.
 * @returns false if the user is disabled or deleted, if they no longer have the verified password or identity, or if a session that was
 * opened with this token was ended.
 */
export async function insertSession(sql: Sql, { id, userId, proof, refreshKey, client }: NewSession): Promise<boolean> {
  const token = "tokenKey" in proof ? proof : null;
  const proofCondition =
    "tokenKey" in proof
      ? sql`not exists (select 1 from sessions e where e.token_key = ${proof.tokenKey} and e.revoked_at is not null)`
      : sql`u.password_hash = ${proof.passwordHash}`;
  // Also locks the identity, to wait for a transaction that unlinks it.
  const identityJoin = token
    ? sql`join identities i on i.user_id = u.id and i.issuer = ${token.issuer} and i.subject = ${token.subject}`
    : sql``;
  const { count } = await sql`
    insert into sessions
      (id, user_id, refresh_key, user_agent, ip_address, expires_at, token_key, token_expires_at, authenticated_at)
    select ${id}::uuid, u.id, ${refreshKey}::bytea, ${client.userAgent}::text, ${client.ipAddress}::text,
      now() + ${toInterval(sql, SESSION_IDLE_TIMEOUT_S)}, ${token?.tokenKey ?? null}::bytea,
      ${token && new Date(token.expiresAtMs)}::timestamptz, ${token && new Date(token.authenticatedAtMs)}::timestamptz
    from users u ${identityJoin} where u.id = ${userId} and ${proofCondition} and u.disabled_at is null
    for share of ${token ? sql`u, i` : sql`u`}`;
  return count > 0;
}

export type RefreshState = {
  user_id: string;
  refresh_key: Uint8Array;
  generation: number;
  /** Whether the previous generation is still accepted. */
  is_in_grace: boolean;
  is_live: boolean;
};

export async function findRefreshState(sql: Sql, sessionId: string): Promise<RefreshState | undefined> {
  const [row] = await sql<RefreshState[]>`
    select s.user_id, s.refresh_key, s.generation, ${liveCondition(sql)} as is_live,
      s.rotated_at > now() - ${toInterval(sql, REFRESH_GRACE_S)} as is_in_grace
    from sessions s join users u on u.id = s.user_id
    where s.id = ${sessionId} and s.refresh_key is not null and u.disabled_at is null`;
  return row;
}

/**
 * Moves a session from this generation to the next one, unless it has already moved. If several calls are concurrent, exactly one of them
 * returns true.
 */
export async function rotateSession(sql: Sql, sessionId: string, generation: number): Promise<boolean> {
  const { count } = await sql`
    update sessions s set generation = generation + 1, rotated_at = now(), last_used_at = now(),
      expires_at = least(now() + ${toInterval(sql, SESSION_IDLE_TIMEOUT_S)}, created_at + ${toInterval(sql, SESSION_LIFETIME_MAX_S)})
    where s.id = ${sessionId} and s.generation = ${generation} and ${liveCondition(sql)}`;
  return count > 0;
}

/** Ends a live session. @returns its user, or undefined if it wasn't live. */
export async function endSession(
  sql: Sql,
  sessionId: string,
  reason: SessionEndReason,
  userId?: string,
): Promise<{ user_id: string } | undefined> {
  const userCondition = userId === undefined ? sql`` : sql`and s.user_id = ${userId}`;
  const [row] = await sql<{ user_id: string }[]>`
    update sessions s set revoked_at = now(), revoked_reason = ${reason}
    where s.id = ${sessionId} and ${liveCondition(sql)} ${userCondition} returning s.user_id`;
  return row;
}

/** Ends all live sessions of a user, except the session `exceptId` if given. @returns the ids of the ended sessions. */
export async function endUserSessions(
  sql: Sql,
  userId: string,
  reason: SessionEndReason,
  exceptId?: string,
): Promise<string[]> {
  const exceptCondition = exceptId === undefined ? sql`` : sql`and s.id <> ${exceptId}`;
  const rows = await sql<{ id: string }[]>`
    update sessions s set revoked_at = now(), revoked_reason = ${reason}
    where s.user_id = ${userId} and ${liveCondition(sql)} ${exceptCondition} returning s.id`;
  return rows.map(({ id }) => id);
}

/**
 * Ends a user's live sessions, except the `keepCount` most recently used sessions. Removes the client's personal data from the ended
 * sessions. Locked sessions are left for the next call.
 * @returns the ids of the ended sessions.
 */
export async function endLeastUsedSessions(sql: Sql, userId: string, keepCount: number): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    update sessions s set revoked_at = now(), revoked_reason = ${"quota_exceeded" satisfies SessionEndReason},
      user_agent = null, ip_address = null
    where s.id = any (array(
      select l.id from sessions l where l.id = any (array(
        select s.id from sessions s where s.user_id = ${userId} and ${liveCondition(sql)}
        order by s.last_used_at desc, s.id desc offset ${keepCount} limit ${ENDED_SESSIONS_BATCH_ROWS}))
      for no key update skip locked))
    returning s.id`;
  return rows.map(({ id }) => id);
}

/** Removes the client's personal data from all of the user's sessions, including ended sessions. */
export async function eraseClientData(sql: Sql, userId: string): Promise<void> {
  await sql`
    update sessions set user_agent = null, ip_address = null
    where user_id = ${userId} and (user_agent is not null or ip_address is not null)`;
}

export type SessionUser = { id: string; email: string; display_name: string; role: UserRole; created_at: Date };

/** Finds the user of a live session. Returns undefined if the session isn't live or the user is disabled. */
export async function findSessionUser(sql: Sql, sessionId: string): Promise<SessionUser | undefined> {
  const [row] = await sql<SessionUser[]>`
    select u.id, u.email, u.display_name, u.role, u.created_at from sessions s join users u on u.id = s.user_id
    where s.id = ${sessionId} and ${liveCondition(sql)} and u.disabled_at is null`;
  return row;
}

/** Returns whether the user of a live session logged in within this time. A refresh or a ticket is not a login. */
export async function isRecentLogin(sql: Sql, sessionId: string, withinSeconds: number): Promise<boolean> {
  const rows = await sql`
    select 1 from sessions s where s.id = ${sessionId} and ${liveCondition(sql)}
      and least(s.created_at, s.authenticated_at) > now() - ${toInterval(sql, withinSeconds)}`;
  return rows.length > 0;
}

export type SessionRow = {
  id: string;
  user_agent: string | null;
  ip_address: string | null;
  created_at: Date;
  last_used_at: Date;
  expires_at: Date;
};

/** Lists a user's live sessions, newest first. */
export async function listSessions(
  sql: Sql,
  userId: string,
  limit: number,
  beforeId: string | null,
): Promise<SessionRow[]> {
  const beforeCondition = beforeId === null ? sql`` : sql`and s.id < ${beforeId}`;
  return await sql<SessionRow[]>`
    select s.id, s.user_agent, s.ip_address, s.created_at, s.last_used_at, s.expires_at from sessions s
    where s.user_id = ${userId} and ${liveCondition(sql)} ${beforeCondition} order by s.id desc limit ${limit}`;
}

export type EndedSession = { id: string; reason: SessionEndReason };

/** Lists the sessions that were ended within this time, including sessions of users who were disabled directly in the database. */
export async function listEndedSessions(sql: Sql, withinSeconds: number): Promise<EndedSession[]> {
  return await sql<EndedSession[]>`
    (select id, revoked_reason as reason from sessions
     where revoked_at > now() - ${toInterval(sql, withinSeconds)} order by revoked_at desc limit ${ENDED_SESSIONS_BATCH_ROWS})
    union all
    (select s.id, 'user_disabled' from users u join sessions s on s.user_id = u.id and s.revoked_at is null
     where u.disabled_at > now() - ${toInterval(sql, withinSeconds)} limit ${ENDED_SESSIONS_BATCH_ROWS})`;
}

/** Lists those of the given sessions that no longer grant access, including deleted sessions. */
export async function listEndedSessionsAmong(sql: Sql, ids: readonly string[]): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    select w.id from unnest(${[...ids]}::uuid[]) as w (id)
    where not exists (
      select 1 from sessions s join users u on u.id = s.user_id
      where s.id = w.id and s.revoked_at is null and u.disabled_at is null)`;
  return rows.map(({ id }) => id);
}

export async function deleteOldSessions(sql: Sql, endedForSeconds: number): Promise<number> {
  const { count } = await sql`
    delete from sessions where ctid = any (array(
      select ctid from sessions where least(expires_at, revoked_at) < now() - ${toInterval(sql, endedForSeconds)}
        and (token_expires_at is null or token_expires_at < now())
      order by least(expires_at, revoked_at) limit ${ENDED_SESSIONS_BATCH_ROWS} for update skip locked))`;
  return count;
}

type NewTicket = {
  hash: Uint8Array;
  /** The session's id, or the API key's if `isKey` is true. */
  credentialId: string;
  userId: string;
  isKey: boolean;
  ttlSeconds: number;
  /** `Infinity` if the credential doesn't expire. */
  credentialExpiresAtMs: number;
};

export async function insertTicket(
  sql: Sql,
  { hash, credentialId, userId, isKey, ttlSeconds, credentialExpiresAtMs }: NewTicket,
): Promise<void> {
  await sql`
    insert into tickets (hash, session_id, api_key_id, user_id, expires_at, credential_expires_at)
    values (${hash}, ${isKey ? null : credentialId}, ${isKey ? credentialId : null}, ${isKey ? userId : null},
      now() + ${toInterval(sql, ttlSeconds)},
      ${Number.isFinite(credentialExpiresAtMs) ? new Date(credentialExpiresAtMs) : null})`;
}

/** A ticket for a session, or for an API key and the user it acts for. */
export type TicketRow = {
  session_id: string | null;
  api_key_id: string | null;
  user_id: string | null;
  credential_expires_at: Date | null;
};

/** Deletes and returns a ticket. If several calls are concurrent, only one of them receives the ticket. */
export async function consumeTicket(sql: Sql, hash: Uint8Array): Promise<TicketRow | undefined> {
  const [row] = await sql<TicketRow[]>`
    delete from tickets where hash = ${hash} and expires_at > now()
    returning session_id, api_key_id, user_id, credential_expires_at`;
  return row;
}

export async function deleteExpiredTickets(sql: Sql): Promise<number> {
  const { count } = await sql`
    delete from tickets where ctid = any (array(
      select ctid from tickets where expires_at < now()
      order by expires_at limit ${ENDED_SESSIONS_BATCH_ROWS} for update skip locked))`;
  return count;
}
