import type { Sql } from "../../../db/client.ts";
import { claimLease, freeCondition, type LeasedTable, releaseLeases, renewLeases } from "../../../db/leases.ts";

/** A webhook that this instance has leased. `fence` is the lease's fencing token. */
export type Endpoint = { id: string; fence: number };

/** A lease that hasn't been renewed for this long can be acquired by another instance. */
const LEASE_DURATION_MS = 15_000;

const leasedTable: LeasedTable<Endpoint> = {
  name: "webhooks",
  key: ["id"],
  selectHeldRows: (sql, endpoints) => sql`
    unnest(${endpoints.map(({ id }) => id)}::uuid[], ${endpoints.map(({ fence }) => fence)}::int[]) as h (id, fence)`,
  inProgressCondition: (sql) => sql`true`,
};

/** Lists webhooks with due deliveries, except those that other instances have leased. The longest-waiting ones come first. */
export async function listDueEndpoints(sql: Sql, owner: string): Promise<{ id: string; isFree: boolean }[]> {
  return await sql<{ id: string; isFree: boolean }[]>`
    select x.id, ${freeCondition(sql)} as "isFree" from webhooks x
    where ${readyCondition(sql)} and (x.owner = ${owner} or ${freeCondition(sql)})
      and exists (
        select from webhook_deliveries d
        where d.webhook_id = x.id and d.status = 'pending' and d.next_attempt_at <= now())
    order by x.lease_until`;
}

/** Acquires the leases of these webhooks, except those that other instances have acquired. */
export async function claimEndpoints(sql: Sql, owner: string, ids: string[]): Promise<Endpoint[]> {
  return await sql<Endpoint[]>`
    with free as materialized (
      select x.id from webhooks x
      where x.id = any (${ids}::uuid[]) and ${readyCondition(sql)} and ${freeCondition(sql)} for no key update skip locked
    )
    update webhooks x set ${claimLease(sql, owner, LEASE_DURATION_MS)} from free where x.id = free.id
    returning x.id, x.fence`;
}

export const renewEndpoints = async (sql: Sql, owner: string, endpoints: Endpoint[]): Promise<void> => {
  await renewLeases(sql, leasedTable, owner, endpoints, {
    leaseMs: LEASE_DURATION_MS,
    renewBelowMs: LEASE_DURATION_MS,
  });
};

/** Releases the leases, so that another instance can deliver immediately. */
export const releaseEndpoints = async (sql: Sql, owner: string, endpoints: Endpoint[]): Promise<void> => {
  await releaseLeases(sql, leasedTable, owner, endpoints);
};

const readyCondition = (sql: Sql) => sql`x.disabled_at is null and (x.paused_until is null or x.paused_until <= now())`;
