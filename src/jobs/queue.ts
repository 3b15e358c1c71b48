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

/** A job of a queue, leased by an instance. */
export type QueuedJob = {
  queue: string;
  key: string;
  /** How often it was claimed, including this time. */
  attempts: number;
  fence: number;
};

/** The queue of recurring jobs, each run by one instance at a time. They have no attempts. */
const INTERVALS = "intervals";
/** Stored length of an error. */
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
 * Enqueues jobs, inside the transaction that makes them necessary. Any instance runs them, at least once. Existing jobs stay
 * unchanged.
 * @param keys the subjects of the work, one job each. Work that may come up again while it is running needs a new key.
 */
export async function enqueue(sql: Sql, queue: string, keys: readonly string[]): Promise<void> {
  await sql`
    insert into jobs (queue, key) select ${queue}, key from unnest(${[...keys]}::text[]) as k (key)
    on conflict do nothing`;
}

/** Claims due jobs, the longest overdue first. */
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

/** Claims a recurring job if it is due; a new one is due immediately. */
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

/** Returns the jobs no longer held: their lease expired and another instance claimed them. */
export async function findLostLeases(sql: Sql, owner: string, held: QueuedJob[]): Promise<QueuedJob[]> {
  const kept = await sql<{ queue: string; key: string }[]>`
    select x.queue, x.key from ${leased.listHeld(sql, held)} join jobs x on ${isHeld(sql, leased, owner)}`;
  const names = new Set(kept.map(nameOf));
  return held.filter((job) => !names.has(nameOf(job)));
}

/** Marks a job as done. */
export async function complete(sql: Sql, owner: string, job: QueuedJob): Promise<void> {
  await sql`
    delete from jobs x using ${leased.listHeld(sql, [job])} where ${isHeld(sql, leased, owner)}`;
}

/** Schedules a job again in `inMs` milliseconds. @param error of the failed attempt; null: it didn't fail. */
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

/** Releases unfinished jobs that didn't fail: another instance continues immediately. */
export async function release(sql: Sql, owner: string, held: QueuedJob[]): Promise<void> {
  await releaseLeases(sql, leased, owner, held);
}

export const nameOf = ({ queue, key }: { queue: string; key: string }): string => `${queue} ${key}`;
