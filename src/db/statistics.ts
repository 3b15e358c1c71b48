import type { Sql } from "./client.ts";

/** Statistics are gathered if a table has more than `PAGES_MIN` pages and has grown by this factor. */
const GROWTH_FACTOR = 4;
const PAGES_MIN = 2;
/** Statistics are also gathered if a table has at least this many rows, and far more than its statistics say (`GROWTH_FACTOR`). */
const UNKNOWN_ROWS_MIN = 1_000;
/** Maximum number of pages (80 MB) of a table whose statistics Parley gathers. For larger tables, autovacuum is fast enough. */
const PAGES_MAX = 10_000;

/**
 * Gathers statistics on tables that have grown a lot since the last time, for example after an import or a restore. Functions cache
 * their query plans, and a plan made while a table was nearly empty may use a sequential scan. New statistics make all connections
 * create new plans. Autovacuum also gathers them, but runs only once a minute.
 * @returns the names of the tables.
 */
export async function gatherStatistics(sql: Sql): Promise<string[]> {
  const grownTables = await sql<{ name: string }[]>`
    select c.relname as name from pg_class c
    where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and c.relpages < ${PAGES_MAX}
      and (pg_relation_size(c.oid) >= ${GROWTH_FACTOR} * greatest(c.relpages, ${PAGES_MIN})::bigint * current_setting('block_size')::bigint
        -- When the table was last analyzed, its pages were full of uncommitted rows.
        or pg_stat_get_live_tuples(c.oid) >= greatest(${UNKNOWN_ROWS_MIN}::float8, ${GROWTH_FACTOR} * c.reltuples))`;
  // Skips a table that another instance is analyzing.
  for (const { name } of grownTables) await sql`analyze (skip_locked) ${sql(name)}`;
  return grownTables.map(({ name }) => name);
}
