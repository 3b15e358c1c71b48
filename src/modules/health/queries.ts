import type { Database, Sql } from "../../db/client.ts";

/** Asks the database for a sign of life. */
export async function ping(sql: Sql): Promise<void> {
  await sql`select 1`;
}

export async function findServerVersion(sql: Sql): Promise<string | null> {
  const [row] = await sql<{ version: string }[]>`select current_setting('server_version') as version`;
  return row?.version ?? null;
}

/** This instance's connections by state, as Postgres sees them: they share its `application_name`. */
export async function countConnections(sql: Sql): Promise<{ state: string; count: number }[]> {
  return await sql<{ state: string; count: number }[]>`
    select case when state = 'active' then 'active'
                when state like 'idle in transaction%' then 'in_transaction'
                else 'idle' end as state,
           count(*)::int as count
      from pg_stat_activity
     where application_name = current_setting('application_name')
       and datname = current_database() and usename = current_user and pid <> pg_backend_pid()
     group by 1`;
}

/** Writes about a megabyte, and leaves nothing of it. @throws when there is no room for it. */
export async function tryRoom(database: Database): Promise<void> {
  await database.begin(
    (sql) => sql`
      create temporary table room on commit drop as select repeat('x', 1000) as filler from generate_series(1, 1000)`,
  );
}
