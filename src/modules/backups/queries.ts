import type { Sql } from "../../db/client.ts";

/** The state of scheduled backups, shared by all instances. Times come from the database's clock. */
export type ScheduleState = {
  /** Identifies the database. Backups have it in their names. */
  origin: string;
  now: Date;
  doneUntil: Date;
  succeededAt: Date | null;
  bytes: number | null;
  failures: number;
  /** When a failed backup is retried. */
  retryAt: Date | null;
};

/** Maximum stored length of an error, in UTF-16 code units. */
const ERROR_CHARS_MAX = 1_000;

/**
 * Finds the state. Returns null before the first start with a schedule. Also returns null if the database's clock was once so far
 * ahead that no backup would be due for a long time. In both cases, call `beginSchedule`.
 */
export async function findScheduleState(sql: Sql): Promise<ScheduleState | null> {
  const [row] = await sql<ScheduleState[]>`
    select origin, now() as now, done_until as "doneUntil", succeeded_at as "succeededAt", bytes::float8 as bytes, failures,
      retry_at as "retryAt"
    from backup_schedule where done_until < now() + interval '1 minute'`;
  return row ?? null;
}

/** Starts the schedule. The first backup is due at the next scheduled time. */
export async function beginSchedule(sql: Sql): Promise<void> {
  // If several instances start at the same time, only the first one writes.
  await sql`
    insert into backup_schedule as s default values
    on conflict (id) do update set done_until = now(), retry_at = null where s.done_until >= now() + interval '1 minute'`;
}

/** Records a backup. Scheduled times that passed while it ran also count as done. */
export async function recordSuccess(sql: Sql, { name, bytes }: { name: string; bytes: number }): Promise<void> {
  await sql`
    update backup_schedule set done_until = now(), succeeded_at = now(), name = ${name}, bytes = ${bytes}, failures = 0,
      retry_at = null, error = null`;
}

export async function recordFailure(sql: Sql, error: string, retryMs: number): Promise<void> {
  await sql`
    update backup_schedule set failures = failures + 1, retry_at = now() + ${retryMs} * interval '1 ms',
      error = ${error.slice(0, ERROR_CHARS_MAX)}`;
}
