import type { TestApp } from "./app.ts";

/** Sessions of the test's database that wait for a lock. */
export async function countWaiting({ database }: Pick<TestApp, "database">): Promise<number> {
  const [row] = await database<{ count: number }[]>`
    select count(*)::int from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
  return row?.count ?? 0;
}
