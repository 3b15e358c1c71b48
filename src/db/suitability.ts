import type { Sql } from "./client.ts";

const SERVER_VERSION_MIN = 150_000;

/** Thrown if the database is unsuitable and waiting doesn't help. The message explains in one sentence how to fix it. */
export class UnsuitableDatabaseError extends Error {}

/** Thrown if the database isn't ready yet. The message explains the reason in one sentence. */
export class DatabaseNotReadyError extends Error {}

/** Checks the server. @throws UnsuitableDatabaseError if it is too old, or the encoding isn't UTF8. */
export async function checkServer(sql: Sql): Promise<void> {
  const [server] = await sql<{ version: number; version_text: string; encoding: string; name: string }[]>`
    select current_setting('server_version_num')::int as version, current_setting('server_version') as version_text,
      current_setting('server_encoding') as encoding, current_database() as name`;
  if (!server || server.version < SERVER_VERSION_MIN)
    throw new UnsuitableDatabaseError(`The database is PostgreSQL ${server?.version_text}; Parley needs 15 or newer.`);
  if (server.encoding !== "UTF8")
    throw new UnsuitableDatabaseError(
      `The database "${server.name}" has the encoding ${server.encoding}, and Parley needs UTF8; ` +
        "create another with `create database … encoding 'UTF8' template template0`, and set DATABASE_URL to it.",
    );
}

/** Checks that the database is writable. @throws DatabaseNotReadyError while it is read-only. */
export async function checkWritable(sql: Sql): Promise<void> {
  const [state] = await sql<{ is_standby: boolean; is_read_only: boolean; name: string; role: string }[]>`
    select pg_is_in_recovery() as is_standby, current_setting('transaction_read_only')::boolean as is_read_only,
      current_database() as name, current_user as role`;
  if (state?.is_standby)
    throw new DatabaseNotReadyError(
      `The database "${state.name}" is read-only because its server is a standby; promote it, or set DATABASE_URL to the primary.`,
    );
  if (state?.is_read_only)
    throw new DatabaseNotReadyError(
      `The database "${state.name}" is read-only for the role "${state.role}" because default_transaction_read_only is on; ` +
        "reset it for the server, the database or the role.",
    );
}

/**
 * Checks that Parley's tables can be created in this database. Changes nothing.
 * @param tables the tables to create if none of Parley's exist yet.
 * @throws UnsuitableDatabaseError if there is no schema, no permission to create tables in it, or if another application has
 * tables with these names.
 */
export async function checkTablesCanBeCreated(sql: Sql, tables: string[]): Promise<void> {
  const [schemaState] = await sql<{ schema: string | null; can_create: boolean | null; path: string; role: string }[]>`
    select current_schema() as schema, has_schema_privilege(current_schema(), 'create') as can_create,
      current_setting('search_path') as path, current_user as role`;
  if (!schemaState || schemaState.schema === null)
    throw new UnsuitableDatabaseError(
      `search_path is ${JSON.stringify(schemaState?.path)}, and no schema in it exists; create the schema, or reset search_path.`,
    );
  if (!schemaState.can_create)
    throw new UnsuitableDatabaseError(
      `The role "${schemaState.role}" has no permission to create tables in the schema "${schemaState.schema}"; ` +
        `run \`grant create on schema ${schemaState.schema} to ${schemaState.role}\`, or make it the owner of the database.`,
    );
  const unrelatedTables = await sql<{ name: string }[]>`
    select relname as name from pg_class
    where relnamespace = current_schema()::regnamespace and relname = any(${tables}::text[]) order by relname`;
  if (unrelatedTables.length > 0) throw createUnrelatedTableError(unrelatedTables[0]?.name ?? "", schemaState.schema);
}

/** Checks the tables that record migrations. @throws UnsuitableDatabaseError if another application created them. */
export async function checkMigrationTables(sql: Sql): Promise<void> {
  const unrelatedTables = await sql<{ name: string; schema: string }[]>`
    select c.relname as name, c.relnamespace::regnamespace::text as schema from pg_class c
    where c.relnamespace = current_schema()::regnamespace and c.relname in ('migrations', 'sql_functions')
      and (select count(*) from pg_attribute a where a.attrelid = c.oid
           and a.attname in ('name', 'checksum', 'applied_at')) < 3
    order by 1`;
  if (unrelatedTables[0]) throw createUnrelatedTableError(unrelatedTables[0].name, unrelatedTables[0].schema);
}

const createUnrelatedTableError = (name: string, schema: string) =>
  new UnsuitableDatabaseError(
    `The schema "${schema}" has a table "${name}" that doesn't belong to Parley; use a separate database for Parley.`,
  );
