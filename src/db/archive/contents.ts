import type { Sql } from "../client.ts";
import { type AppliedMigration, bundledSql } from "../migrate.ts";

/** One of Parley's tables in the database. */
export type StoredTable = { name: string; columns: string[]; storedBytes: number };

const CREATED_TABLE = /^create (?:unlogged )?table (?:if not exists )?"?(\w+)/gim;

/** Returns the names of all tables that these migrations create. */
export const listCreatedTables = (names: ReadonlySet<string>): string[] =>
  bundledSql.migrations
    .filter(({ name }) => names.has(name))
    .flatMap(({ text }) => [...text.matchAll(CREATED_TABLE)].map(([, name = ""]) => name));

/**
 * Lists the tables to back up: all of Parley's tables except unlogged ones, whose contents are short-lived (tickets, messages
 * between instances). Derived data (search index, analytics) is included, because it must match the other data. Other tables in
 * the schema are ignored.
 */
export async function listStoredTables(sql: Sql, migrations: readonly AppliedMigration[]): Promise<StoredTable[]> {
  const created = listCreatedTables(new Set(migrations.map(({ name }) => name)));
  return await sql<StoredTable[]>`
    select c.relname as name, pg_table_size(c.oid)::float8 as "storedBytes", array(
      select a.attname::text from pg_attribute a
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' order by a.attnum
    ) as columns
    from pg_class c
    where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and c.relpersistence = 'p'
      and c.relname = any (${created}::text[])
    order by c.relname collate "C"`;
}

/** Lists the sequences that belong to these tables. */
export async function listSequences(sql: Sql, tables: readonly string[]): Promise<string[]> {
  const rows = await sql<{ name: string }[]>`
    select s.relname as name
    from pg_class s
    join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = s.oid and d.deptype in ('a', 'i')
    join pg_class t on t.oid = d.refobjid and d.refclassid = 'pg_class'::regclass
    where s.relkind = 'S' and t.relnamespace = current_schema()::regnamespace and t.relname = any (${[...tables]}::text[])
    order by s.relname collate "C"`;
  return rows.map(({ name }) => name);
}

/** Quotes an identifier, for statements in which it can't be a parameter. */
export const quoteIdentifier = (name: string): string => `"${name.replaceAll('"', '""')}"`;
