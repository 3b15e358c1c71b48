import type { Log } from "../lib/log.ts";
import { type Database, type Sql, withTransaction } from "./client.ts";
import { readMigrationFiles } from "./migration-files.ts" with { type: "macro" };

export type Migration = { name: string; text: string; checksum: string };
export type MigrationStatus = {
  name: string;
  applied_at: Date | null;
  state: "applied" | "pending" | "changed" | "unknown";
};

/** Any number, the same on every instance: whoever holds this advisory lock migrates, the others wait. */
const MIGRATION_LOCK = 7_275_539;
const SERVER_VERSION_MIN = 150_000;

const files: { name: string; text: string }[] = readMigrationFiles();

/** The migrations that this build carries, in order. */
export const migrations: Migration[] = files.map(({ name, text }) => ({
  name,
  text,
  checksum: new Bun.CryptoHasher("sha256").update(text).digest("hex"),
}));

export class MigrationError extends Error {}

/**
 * Brings the database up to date: each migration in a transaction of its own, forward only. Safe when several
 * instances start at once, also behind PgBouncer: the lock lives in the transaction. An error leaves what was applied
 * before.
 * @returns the names of the migrations applied now.
 * @throws MigrationError when an applied file has changed since, or the server is too old.
 */
export async function migrate(database: Database, log: Log): Promise<string[]> {
  await checkServerVersion(database);
  const applied: string[] = [];
  for (const migration of migrations) {
    const isNew = await withTransaction(database, (sql) => applyOnce(sql, migration));
    if (!isNew) continue;
    log.info({ migration: migration.name }, "migration applied");
    applied.push(migration.name);
  }
  return applied;
}

async function checkServerVersion(sql: Sql): Promise<void> {
  const [server] = await sql<{ version: number; shown: string }[]>`
    select current_setting('server_version_num')::int as version, current_setting('server_version') as shown`;
  if (!server || server.version < SERVER_VERSION_MIN)
    throw new MigrationError(`The database is PostgreSQL ${server?.shown}; Parley needs 15 or newer.`);
}

async function applyOnce(sql: Sql, { name, text, checksum }: Migration): Promise<boolean> {
  await sql`select pg_advisory_xact_lock(${MIGRATION_LOCK})`;
  await createBookkeeping(sql);
  const [row] = await sql<{ checksum: string }[]>`select checksum from migrations where name = ${name}`;
  if (row && row.checksum !== checksum)
    throw new MigrationError(`${name} was applied to this database with another text. Use the build it came from.`);
  if (row) return false;
  await sql`set local statement_timeout = 0`;
  await sql.unsafe(text);
  await sql`insert into migrations (name, checksum) values (${name}, ${checksum})`;
  return true;
}

async function createBookkeeping(sql: Sql): Promise<void> {
  await sql`
    create table if not exists migrations (
      name text primary key, checksum text not null, applied_at timestamptz not null default now())`;
}

/** Every migration known to this build or to the database, with its state. Creates the bookkeeping table. */
export async function listMigrations(sql: Sql): Promise<MigrationStatus[]> {
  await createBookkeeping(sql);
  const rows = await sql<{ name: string; checksum: string; applied_at: Date }[]>`
    select name, checksum, applied_at from migrations`;
  const applied = new Map(rows.map((row) => [row.name, row]));
  const known = migrations.map(({ name, checksum }): MigrationStatus => {
    const row = applied.get(name);
    applied.delete(name);
    if (!row) return { name, applied_at: null, state: "pending" };
    return { name, applied_at: row.applied_at, state: row.checksum === checksum ? "applied" : "changed" };
  });
  const unknown = [...applied.values()].map(
    ({ name, applied_at }): MigrationStatus => ({ name, applied_at, state: "unknown" }),
  );
  return [...known, ...unknown].sort((a, b) => a.name.localeCompare(b.name));
}
