import type { Sql } from "./client.ts";

/** Gather statistics when a table has grown by this factor, above this number of pages. */
const GROWTH = 4;
const PAGES_MIN = 2;
/** This many rows unknown to the statistics are worth a look, however large the table is. */
const UNKNOWN_ROWS_MIN = 1_000;
/** From this size on (80 MB) autovacuum is fast enough. */
const PAGES_MAX = 10_000;

/**
 * Gathers statistics of tables that have grown much since the last time: in a new database, after an import or a restore.
 * Functions keep their plans; a plan made while a table was nearly empty may scan it later. New statistics make every
 * connection plan again. Autovacuum does the same, but only once a minute.
 * @returns the tables.
 */
export async function gatherStatistics(sql: Sql): Promise<string[]> {
  const grown = await sql<{ name: string }[]>`
    select c.relname as name from pg_class c
    where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and c.relpages < ${PAGES_MAX}
      and (pg_relation_size(c.oid) >= ${GROWTH} * greatest(c.relpages, ${PAGES_MIN})::bigint * current_setting('block_size')::bigint
        -- When last analyzed, its pages were full of uncommitted rows.
        or pg_stat_get_live_tuples(c.oid) >= greatest(${UNKNOWN_ROWS_MIN}::float8, ${GROWTH} * c.reltuples))`;
  // Skips a table that another instance is analyzing.
  for (const { name } of grown) await sql`analyze (skip_locked) ${sql(name)}`;
  return grown.map(({ name }) => name);
}
