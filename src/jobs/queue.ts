import type { Sql } from "../db/client.ts";
import {
  isFree,
  isHeld,
  type LeasedTable,
  leaseEnd,
  releaseLeases,
  renewLeases as renew,
  takeLease,
} from "../db/leases.ts";

/** Work of a queue that an instance has taken. */
export type QueuedJob = {
  queue: string;
  key: string;
  /** How often it was taken, this time included. */
  attempts: number;
  fence: number;
};

/** In this queue are the jobs that are done again and again, by one instance at a time. They have no attempts. */
const INTERVALS = "intervals";
/** Of an error, so much is kept. */
const ERROR_CHARS_MAX = 1_000;

const leased: LeasedTable<QueuedJob> = {
  name: "jobs",
  key: ["queue", "key"],
  listHeld: (sql, held) => sql`
    unnest(${held.map(({ queue }) => queue)}::text[], ${held.map(({ key }) => key)}::text[],
      ${held.map(({ fence }) => fence)}::int[]) as h (queue, key, fence)`,
  isOpen: (sql) => sql`true`,
};

/**
 * Puts work into a queue, inside the transaction that makes it necessary: it is done by any instance, at least once. What
 * is there already stays as it is.
 * @param keys what the work is about; one job for each. What may come up again while it is at work needs a new key.
 */
export async function enqueue(sql: Sql, queue: string, keys: readonly string[]): Promise<void> {
  await sql`
    insert into jobs (queue, key) select ${queue}, key from unnest(${[...keys]}::text[]) as k (key)
    on conflict do nothing`;
}

/** Takes what is due, the longest due first. */
export async function claimDue(
  sql: Sql,
  queue: string,
  owner: string,
  { leaseMs, rows }: { leaseMs: number; rows: number },
): Promise<QueuedJob[]> {
  return sql<QueuedJob[]>`
    with due as materialized (
      select x.queue, x.key from jobs x where x.queue = ${queue} and ${isFree(sql)}
      order by x.lease_until limit ${rows} for no key update skip locked
    )
    update jobs x set ${takeLease(sql, owner, leaseMs)}, attempts = x.attempts + 1
    from due where x.queue = due.queue and x.key = due.key
    returning x.queue, x.key, x.attempts, x.fence`;
}

/** Takes what is done at intervals, if it is due; the first time it is. */
export async function claimInterval(
  sql: Sql,
  name: string,
  owner: string,
  leaseMs: number,
): Promise<QueuedJob | undefined> {
  const [job] = await sql<QueuedJob[]>`
    insert into jobs as x (queue, key, owner, lease_until)
    values (${INTERVALS}, ${name}, ${owner}, ${leaseEnd(sql, leaseMs)})
    on conflict (queue, key) do update set ${takeLease(sql, owner, leaseMs)} where ${isFree(sql)}
    returning queue, key, attempts, fence`;
  return job;
}

export const renewJobLeases = async (sql: Sql, owner: string, held: QueuedJob[], leaseMs: number): Promise<void> => {
  await renew(sql, leased, owner, held, { leaseMs, enoughMs: leaseMs });
};

/** Those that are held no longer: their lease ran out, and somebody else took them. */
export async function findLost(sql: Sql, owner: string, held: QueuedJob[]): Promise<QueuedJob[]> {
  const kept = await sql<{ queue: string; key: string }[]>`
    select x.queue, x.key from ${leased.listHeld(sql, held)} join jobs x on ${isHeld(sql, leased, owner)}`;
  const names = new Set(kept.map(nameOf));
  return held.filter((job) => !names.has(nameOf(job)));
}

/** It is done. */
export async function complete(sql: Sql, owner: string, job: QueuedJob): Promise<void> {
  await sql`
    delete from jobs x using ${leased.listHeld(sql, [job])} where ${isHeld(sql, leased, owner)}`;
}

/** It is due again in `inMs` milliseconds. @param error what it failed with; null: it did not. */
export async function postpone(
  sql: Sql,
  owner: string,
  job: QueuedJob,
  inMs: number,
  error: string | null,
): Promise<void> {
  await sql`
    update jobs x set lease_until = ${leaseEnd(sql, inMs)}, error = ${error?.slice(0, ERROR_CHARS_MAX) ?? null}
    from ${leased.listHeld(sql, [job])} where ${isHeld(sql, leased, owner)}`;
}

/** Not done, through no fault of its own: another instance goes on with it at once. */
export async function release(sql: Sql, owner: string, held: QueuedJob[]): Promise<void> {
  await releaseLeases(sql, leased, owner, held);
}

export const nameOf = ({ queue, key }: { queue: string; key: string }): string => `${queue} ${key}`;
