import type { Sql } from "../db/client.ts";
import {
  claimLease,
  freeCondition,
  heldCondition,
  type LeasedTable,
  leaseExpiry,
  releaseLeases,
  renewLeases,
} from "../db/leases.ts";

/** A job of a queue, leased by an instance. */
export type QueuedJob = {
  queue: string;
  key: string;
  /** Number of times that the job was claimed, including this time. */
  attempts: number;
  fence: number;
};

/** The queue of recurring jobs. Each is run by one instance at a time. */
const INTERVALS = "intervals";
/** Maximum length of a stored error. */
const ERROR_CHARS_MAX = 1_000;

const leasedTable: LeasedTable<QueuedJob> = {
  name: "jobs",
  key: ["queue", "key"],
  selectHeldRows: (sql, held) => sql`
    unnest(${held.map(({ queue }) => queue)}::text[], ${held.map(({ key }) => key)}::text[],
      ${held.map(({ fence }) => fence)}::int[]) as h (queue, key, fence)`,
  inProgressCondition: (sql) => sql`true`,
};

/**
 * Enqueues jobs. They are run at least once, by any instance. If a job already exists, nothing changes. Call this in the
 * transaction that makes the jobs necessary.
 * @param keys one key per job. If a job may become necessary again while it is running, it needs a new key each time.
 */
export async function enqueue(sql: Sql, queue: string, keys: readonly string[]): Promise<void> {
  await sql`
    insert into jobs (queue, key) select ${queue}, key from unnest(${[...keys]}::text[]) as k (key)
    on conflict do nothing`;
}

/** Claims due jobs, most overdue first. */
export async function claimDueJobs(
  sql: Sql,
  queue: string,
  owner: string,
  { leaseMs, rows }: { leaseMs: number; rows: number },
): Promise<QueuedJob[]> {
  return sql<QueuedJob[]>`
    with due as materialized (
      select x.queue, x.key from jobs x where x.queue = ${queue} and ${freeCondition(sql)}
      order by x.lease_until limit ${rows} for no key update skip locked
    )
    update jobs x set ${claimLease(sql, owner, leaseMs)}, attempts = x.attempts + 1
    from due where x.queue = due.queue and x.key = due.key
    returning x.queue, x.key, x.attempts, x.fence`;
}

/** Claims a recurring job if it is due. A new job is due immediately. */
export async function claimInterval(
  sql: Sql,
  name: string,
  owner: string,
  leaseMs: number,
): Promise<QueuedJob | undefined> {
  const [job] = await sql<QueuedJob[]>`
    insert into jobs as x (queue, key, owner, lease_until)
    values (${INTERVALS}, ${name}, ${owner}, ${leaseExpiry(sql, leaseMs)})
    on conflict (queue, key) do update set ${claimLease(sql, owner, leaseMs)} where ${freeCondition(sql)}
    returning queue, key, attempts, fence`;
  return job;
}

export const renewJobLeases = async (sql: Sql, owner: string, held: QueuedJob[], leaseMs: number): Promise<void> => {
  await renewLeases(sql, leasedTable, owner, held, { leaseMs, renewBelowMs: leaseMs });
};

/** Returns the jobs whose leases this instance has lost, because they expired and another instance claimed the jobs. */
export async function findLostLeases(sql: Sql, owner: string, held: QueuedJob[]): Promise<QueuedJob[]> {
  const keptJobs = await sql<{ queue: string; key: string }[]>`
    select x.queue, x.key from ${leasedTable.selectHeldRows(sql, held)} join jobs x on ${heldCondition(sql, leasedTable, owner)}`;
  const keptNames = new Set(keptJobs.map(formatJobName));
  return held.filter((job) => !keptNames.has(formatJobName(job)));
}

/** Deletes a completed job. */
export async function completeJob(sql: Sql, owner: string, job: QueuedJob): Promise<void> {
  await sql`
    delete from jobs x using ${leasedTable.selectHeldRows(sql, [job])} where ${heldCondition(sql, leasedTable, owner)}`;
}

/** Reschedules a job to run in `delayMs`. @param error the error of a failed attempt, otherwise null. */
export async function postponeJob(
  sql: Sql,
  owner: string,
  job: QueuedJob,
  delayMs: number,
  error: string | null,
): Promise<void> {
  await sql`
    update jobs x set lease_until = ${leaseExpiry(sql, delayMs)}, error = ${error?.slice(0, ERROR_CHARS_MAX) ?? null}
    from ${leasedTable.selectHeldRows(sql, [job])} where ${heldCondition(sql, leasedTable, owner)}`;
}

/** Releases interrupted jobs, so that another instance can claim them immediately. */
export async function releaseJobs(sql: Sql, owner: string, held: QueuedJob[]): Promise<void> {
  await releaseLeases(sql, leasedTable, owner, held);
}

export const formatJobName = ({ queue, key }: { queue: string; key: string }): string => `${queue} ${key}`;
