import type { Sql } from "./client.ts";

/** Statistics are gathered when a table has grown so many times, from so many pages on. */
const GROWTH = 4;
const PAGES_MIN = 2;
/** So many rows that their statistics do not know of are worth a look, however large the table is. */
const UNKNOWN_ROWS_MIN = 1_000;
/** From here on (80 MB) autovacuum is soon enough. */
const PAGES_MAX = 10_000;

/**
 * Gathers the statistics of tables that have grown much since the last time: of a new database, after an import or a
 * restore. Functions keep the plans that they made; one that was made while a table was nearly empty may scan it later.
 * New statistics make every connection plan again. Autovacuum does the same, but only once a minute.
 * @returns the tables.
 */
export async function gatherStatistics(sql: Sql): Promise<string[]> {
  const grown = await sql<{ name: string }[]>`
    select c.relname as name from pg_class c
    where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and c.relpages < ${PAGES_MAX}
      and (pg_relation_size(c.oid) >= ${GROWTH} * greatest(c.relpages, ${PAGES_MIN})::bigint * current_setting('block_size')::bigint
        -- Its pages were full of rows that were not committed yet, when it was looked at.
        or pg_stat_get_live_tuples(c.oid) >= greatest(${UNKNOWN_ROWS_MIN}::float8, ${GROWTH} * c.reltuples))`;
  // Skips a table that another instance is just looking at.
  for (const { name } of grown) await sql`analyze (skip_locked) ${sql(name)}`;
  return grown.map(({ name }) => name);
}
