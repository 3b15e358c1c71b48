import type { Sql } from "../client.ts";
import { bundledSql, createMigrationTables, readAppliedMigrations, requireKnownMigrations } from "../migrate.ts";
import { checkMigrationTables, checkTablesCanBeCreated } from "../suitability.ts";
import { listCreatedTables, quoteIdentifier } from "./contents.ts";
import { ArchiveError } from "./error.ts";
import type { ArchiveHeader } from "./manifest.ts";

/** If any of these tables has a row, the database is in use. */
const IN_USE_TABLES = ["users", "conversations"];
const CREATED_FUNCTION = /^create (?:or replace )?function (\w+)/gim;
const CREATED_VIEW = /^create (?:or replace )?view (\w+)/gim;
const CREATED_TYPE = /^create type (\w+)/gim;

const findNames = (files: readonly { text: string }[], pattern: RegExp): string[] =>
  files.flatMap(({ text }) => [...text.matchAll(pattern)].map(([, name = ""]) => name));

/**
 * Drops the tables of an unused Parley schema, so that the restore can create them. Does nothing if there are no such tables.
 * @throws ArchiveError if the schema is in use.
 * @throws MigrationError if a newer Parley created it.
 * @throws UnsuitableDatabaseError if it has another application's tables.
 */
export async function dropEmptyTables(sql: Sql, remedy: string): Promise<void> {
  await checkMigrationTables(sql);
  const [state] = await sql<{ is_parley: boolean }[]>`select to_regclass('migrations') is not null as is_parley`;
  const allTables = listCreatedTables(new Set(bundledSql.migrations.map(({ name }) => name)));
  if (!state?.is_parley) {
    await checkTablesCanBeCreated(sql, allTables);
    return;
  }
  await checkUnused(sql, remedy);
  requireKnownMigrations(await readAppliedMigrations(sql));
  const inSchema = sql`relnamespace = current_schema()::regnamespace`;
  // This also drops triggers and views. Functions created by migrations are dropped later, because indexes use them.
  await dropFunctions(sql, findNames(bundledSql.functions, CREATED_FUNCTION), "cascade");
  const views = await sql<{ name: string }[]>`
    select relname as name from pg_class
    where ${inSchema} and relkind = 'v' and relname = any (${findNames(bundledSql.functions, CREATED_VIEW)}::text[])`;
  for (const { name } of views) await sql.unsafe(`drop view ${quoteIdentifier(name)}`);
  const tables = await sql<{ name: string }[]>`
    select relname as name from pg_class
    where ${inSchema} and relkind = 'r' and relname = any (${[...allTables, "migrations", "sql_functions"]}::text[])`;
  await sql.unsafe(`drop table ${tables.map(({ name }) => quoteIdentifier(name)).join(", ")}`);
  await dropFunctions(sql, findNames(bundledSql.migrations, CREATED_FUNCTION), "restrict");
  const types = await sql<{ name: string }[]>`
    select typname as name from pg_type
    where typnamespace = current_schema()::regnamespace
      and typname = any (${findNames(bundledSql.migrations, CREATED_TYPE)}::text[])`;
  for (const { name } of types) await sql.unsafe(`drop type ${quoteIdentifier(name)}`);
}

async function dropFunctions(sql: Sql, names: string[], behavior: "cascade" | "restrict"): Promise<void> {
  const functions = await sql<{ signature: string }[]>`
    select oid::regprocedure::text as signature from pg_proc
    where pronamespace = current_schema()::regnamespace and proname = any (${names}::text[])`;
  for (const { signature } of functions) await sql.unsafe(`drop function if exists ${signature} ${behavior}`);
}

async function checkUnused(sql: Sql, remedy: string): Promise<void> {
  for (const name of IN_USE_TABLES) {
    const [table] = await sql<{ is_there: boolean }[]>`select to_regclass(${name}) is not null as is_there`;
    if (!table?.is_there) continue;
    const [row] = await sql`select 1 from ${sql(name)} limit 1`;
    if (row)
      throw new ArchiveError("target", `The database is not empty: it has ${name}. Nothing was changed; ${remedy}.`);
  }
}

/**
 * Applies these migrations in the current transaction, so that the tables become visible only when they are complete. `migrate`
 * creates functions and triggers later, because restored rows must not fire triggers.
 */
export async function createTables(sql: Sql, migrations: ArchiveHeader["migrations"]): Promise<void> {
  await createMigrationTables(sql);
  const migrationsByName = new Map(migrations.map((row) => [row.name, row]));
  for (const { name, text } of bundledSql.migrations) {
    const row = migrationsByName.get(name);
    if (!row) continue;
    // A transaction can't build an index concurrently. That isn't needed here, because nothing else uses the tables.
    await sql.unsafe(text.replace(/\bindex\s+concurrently\b/gi, "index"));
    // The time is passed as a string, because the driver would round it to milliseconds.
    await sql`
      insert into migrations (name, checksum, applied_at, version)
      values (${row.name}, ${row.checksum}, ${row.applied_at}::text::timestamptz, ${row.version})`;
  }
}

/** An index or constraint, with the statements that drop it and create it again. */
type RebuildableIndex = { table: string; drop: string; create: string[] };

/**
 * Drops foreign keys and indexes, because building an index after loading the rows is many times faster.
 * @returns the statements that create them again, in order.
 */
export async function dropIndexes(sql: Sql): Promise<RebuildableIndex[]> {
  const indexes = await sql<{ table: string; name: string; definition: string; constraint: string | null }[]>`
    select t.relname as "table", i.relname as name, pg_get_indexdef(x.indexrelid) as definition,
      case k.contype when 'p' then 'primary key' when 'u' then 'unique' end as constraint
    from pg_index x
    join pg_class i on i.oid = x.indexrelid
    join pg_class t on t.oid = x.indrelid
    left join pg_constraint k on k.conindid = x.indexrelid and k.contype in ('p', 'u')
    where t.relnamespace = current_schema()::regnamespace and t.relkind = 'r' and t.relpersistence = 'p'
      and t.relname not in ('migrations', 'sql_functions')
    order by t.relname, i.relname`;
  const foreignKeys = await sql<{ table: string; name: string; definition: string }[]>`
    select t.relname as "table", k.conname as name, pg_get_constraintdef(k.oid) as definition
    from pg_constraint k join pg_class t on t.oid = k.conrelid
    where k.contype = 'f' and t.relnamespace = current_schema()::regnamespace
    order by t.relname, k.conname`;
  const foreignKeyStatements = foreignKeys.map(({ table, name, definition }) => ({
    table,
    drop: `alter table ${quoteIdentifier(table)} drop constraint ${quoteIdentifier(name)}`,
    create: [`alter table ${quoteIdentifier(table)} add constraint ${quoteIdentifier(name)} ${definition}`],
  }));
  const indexStatements = indexes.map(({ table, name, definition, constraint }) => {
    const change = `alter table ${quoteIdentifier(table)}`;
    const add = `${change} add constraint ${quoteIdentifier(name)} ${constraint} using index ${quoteIdentifier(name)}`;
    return {
      table,
      drop: constraint ? `${change} drop constraint ${quoteIdentifier(name)}` : `drop index ${quoteIdentifier(name)}`,
      create: constraint ? [definition, add] : [definition],
    };
  });
  for (const { drop } of [...foreignKeyStatements, ...indexStatements]) await sql.unsafe(drop);
  return [...indexStatements, ...foreignKeyStatements];
}

export async function rebuildIndexes(sql: Sql, indexes: RebuildableIndex[]): Promise<void> {
  for (const { create } of indexes) for (const statement of create) await sql.unsafe(statement);
}
