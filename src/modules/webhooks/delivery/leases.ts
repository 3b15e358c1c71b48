import type { Sql } from "../../../db/client.ts";
import { isFree, type LeasedTable, releaseLeases, renewLeases, takeLease } from "../../../db/leases.ts";

/** A webhook that this instance delivers for. */
export type Endpoint = { id: string; fence: number };

/** A lease not renewed for this long can be taken by another instance. */
const LEASE_MS = 15_000;

const leased: LeasedTable<Endpoint> = {
  name: "webhooks",
  key: ["id"],
  listHeld: (sql, held) => sql`
    unnest(${held.map(({ id }) => id)}::uuid[], ${held.map(({ fence }) => fence)}::int[]) as h (id, fence)`,
  isOpen: (sql) => sql`true`,
};

/** Webhooks with due deliveries: those leased by this instance, and free ones, longest-waiting first. */
export async function listDueEndpoints(sql: Sql, owner: string): Promise<{ id: string; isFree: boolean }[]> {
  return await sql<{ id: string; isFree: boolean }[]>`
    select x.id, ${isFree(sql)} as "isFree" from webhooks x
    where ${isReady(sql)} and (x.owner = ${owner} or ${isFree(sql)})
      and exists (
        select from webhook_deliveries d
        where d.webhook_id = x.id and d.status = 'pending' and d.next_attempt_at <= now())
    order by x.lease_until`;
}

/** Takes the leases of those that are still free. */
export async function claimEndpoints(sql: Sql, owner: string, ids: string[]): Promise<Endpoint[]> {
  return await sql<Endpoint[]>`
    with free as materialized (
      select x.id from webhooks x
      where x.id = any (${ids}::uuid[]) and ${isReady(sql)} and ${isFree(sql)} for no key update skip locked
    )
    update webhooks x set ${takeLease(sql, owner, LEASE_MS)} from free where x.id = free.id
    returning x.id, x.fence`;
}

export const renewEndpoints = async (sql: Sql, owner: string, held: Endpoint[]): Promise<void> => {
  await renewLeases(sql, leased, owner, held, { leaseMs: LEASE_MS, enoughMs: LEASE_MS });
};

/** Releases the leases, so that another instance can deliver immediately. */
export const releaseEndpoints = async (sql: Sql, owner: string, held: Endpoint[]): Promise<void> => {
  await releaseLeases(sql, leased, owner, held);
};

const isReady = (sql: Sql) => sql`x.disabled_at is null and (x.paused_until is null or x.paused_until <= now())`;
