import type { TestApp } from "./app.ts";

/** Returns the number of sessions that are waiting for a lock in a test's database. */
export async function countLockWaits({ database }: Pick<TestApp, "database">): Promise<number> {
  const [row] = await database<{ count: number }[]>`
    select count(*)::int from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
  return row?.count ?? 0;
}
