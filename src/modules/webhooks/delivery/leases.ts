import type { Sql } from "../../../db/client.ts";
import { isFree, type LeasedTable, releaseLeases, renewLeases, takeLease } from "../../../db/leases.ts";

/** A webhook that this instance has leased. `fence` is the lease's fencing token. */
export type Endpoint = { id: string; fence: number };

/** A lease that hasn't been renewed for this long can be acquired by another instance. */
const LEASE_MS = 15_000;

const leased: LeasedTable<Endpoint> = {
  name: "webhooks",
  key: ["id"],
  listHeld: (sql, held) => sql`
    unnest(${held.map(({ id }) => id)}::uuid[], ${held.map(({ fence }) => fence)}::int[]) as h (id, fence)`,
  isOpen: (sql) => sql`true`,
};

/** Lists webhooks with due deliveries: those leased by this instance, and free ones. The longest-waiting come first. */
export async function listDueEndpoints(sql: Sql, owner: string): Promise<{ id: string; isFree: boolean }[]> {
  return await sql<{ id: string; isFree: boolean }[]>`
    select x.id, ${isFree(sql)} as "isFree" from webhooks x
    where ${isReady(sql)} and (x.owner = ${owner} or ${isFree(sql)})
      and exists (
        select from webhook_deliveries d
        where d.webhook_id = x.id and d.status = 'pending' and d.next_attempt_at <= now())
    order by x.lease_until`;
}

/** Acquires the leases of these webhooks, as far as they are still free. */
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
