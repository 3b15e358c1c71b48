import type { Database, Sql } from "../../db/client.ts";

export async function ping(sql: Sql): Promise<void> {
  await sql`select 1`;
}

export async function findServerVersion(sql: Sql): Promise<string | null> {
  const [row] = await sql<{ version: string }[]>`select current_setting('server_version') as version`;
  return row?.version ?? null;
}

/** Writes about a megabyte to a temporary table. @throws if there isn't enough disk space. */
export async function tryWrite(database: Database): Promise<void> {
  await database.begin(
    (sql) => sql`
      create temporary table disk_space_check on commit drop as select repeat('x', 1000) as filler from generate_series(1, 1000)`,
  );
}
