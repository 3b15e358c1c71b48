import type { Sql } from "../../db/client.ts";
import type { AuditEntry, AuditFilter, AuditTarget } from "./model.ts";

export async function insertAuditEvent(sql: Sql, id: string, entry: AuditEntry): Promise<void> {
  const { action, actorId, credentialId, target, ipAddress, details = {} } = entry;
  await sql`
    insert into audit_events (id, action, actor_id, credential_id, target_type, target_id, ip_address, details)
    values (${id}, ${action}, ${actorId}, ${credentialId}, ${target?.type ?? null}, ${target?.id ?? null},
            ${ipAddress}, ${sql.json(details)})`;
}

export type AuditRow = {
  id: string;
  action: string;
  actor_id: string | null;
  credential_id: string | null;
  target_type: AuditTarget | null;
  target_id: string | null;
  ip_address: string | null;
  details: Record<string, unknown>;
  at: Date;
};

/** The maximum difference between the time in an entry's id and its `at`, because clocks differ. */
const CLOCK_TOLERANCE_MS = 24 * 60 * 60 * 1000;

/**
 * Lists audit events, newest first. Ids increase with time, so every filter can use an index that ends with the id. A time range is
 * converted to a range of ids, whose rows are then filtered by their exact time.
 */
export async function listAuditEvents(
  sql: Sql,
  { action, actorId, targetId, from, to }: AuditFilter,
  afterId: string | null,
  rowsMax: number,
): Promise<AuditRow[]> {
  return sql<AuditRow[]>`
    select id, action, actor_id, credential_id, target_type, target_id, ip_address, details, at from audit_events
    where true ${action === undefined ? sql`` : sql`and action = ${action}`}
      ${actorId === undefined ? sql`` : sql`and actor_id = ${actorId}`}
      ${targetId === undefined ? sql`` : sql`and target_id = ${targetId}`}
      ${from === undefined ? sql`` : sql`and at >= ${from} and id >= ${createFirstIdAt(from.getTime() - CLOCK_TOLERANCE_MS)}`}
      ${to === undefined ? sql`` : sql`and at < ${to} and id < ${createFirstIdAt(to.getTime() + CLOCK_TOLERANCE_MS)}`}
      ${afterId === null ? sql`` : sql`and id < ${afterId}`}
    order by id desc limit ${rowsMax}`;
}

/** Deletes a batch of old rows. Triggers permit this only with a transaction-local setting. @returns how many were deleted. */
export async function deleteOldAuditEvents(sql: Sql, retentionDays: number, rowsMax: number): Promise<number> {
  await sql`select set_config('parley.audit_retention', 'on', true)`;
  const { count } = await sql`
    delete from audit_events where ctid = any (array(
      select ctid from audit_events where at < now() - make_interval(days => ${retentionDays})
      order by at limit ${rowsMax} for update skip locked))`;
  return count;
}

/**
 * Erases the user's IP addresses and webhook hosts, and the IP addresses of anonymous requests that targeted the user, such as
 * failed logins.
 * @returns how many entries changed.
 */
export async function eraseAuditAddresses(sql: Sql, userId: string, rowsMax: number): Promise<number> {
  await sql`select set_config('parley.audit_erasure', 'on', true)`;
  const { count } = await sql`
    update audit_events set ip_address = null, details = details - 'host' where id = any (array(
      select id from audit_events
      where (ip_address is not null or details ? 'host') and (actor_id = ${userId} or (target_id = ${userId} and actor_id is null))
      limit ${rowsMax}))`;
  await sql`select set_config('parley.audit_erasure', 'off', true)`;
  return count;
}

/** Returns the smallest UUIDv7 of a millisecond. */
function createFirstIdAt(timeMs: number): string {
  const hex = Math.min(Math.max(0, timeMs), TIME_MS_MAX).toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`;
}

/** The largest time that fits in a UUIDv7, which has 48 bits for it. */
const TIME_MS_MAX = 2 ** 48 - 1;
