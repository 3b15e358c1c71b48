import { build } from "../lib/build.ts";
import type { Log } from "../lib/log.ts";
import { type Database, isLockConflict, type Sql } from "./client.ts";
import { MigrationError, runOutsideTransaction } from "./migrate-without-transaction.ts";
import { withMigrationLock } from "./migration-lock.ts";
import { readFunctionsRevision, readSqlFiles } from "./sql-files.ts" with { type: "macro" };
import type { SqlFile } from "./sql-files.ts";
import { checkMigrationTables, checkServer, checkTablesCanBeCreated } from "./suitability.ts";

/** An SQL file with its checksum. */
export type ChecksummedFile = SqlFile & { checksum: string };
export type MigrationStatus = {
  name: string;
  applied_at: Date | null;
  state: "applied" | "pending" | "changed" | "unknown";
};

/** The SQL files of a build. */
export type SqlSources = {
  /** The files in sql/migrations. Each is applied once. */
  migrations: ChecksummedFile[];
  /** The files in sql/functions. They are applied again whenever they change. */
  functions: ChecksummedFile[];
  /** Increases whenever a function changes. A build doesn't replace functions with a higher revision. */
  functionsRevision: number;
};

/** Matches the first line of a migration that runs outside a transaction. */
const NO_TRANSACTION = /^-- parley: no transaction[ \t]*(?:\n|$)/;
const CREATED_TABLE = /^create table (\w+)/gm;

const migrationFiles: SqlFile[] = readSqlFiles("migrations");
const functionFiles: SqlFile[] = readSqlFiles("functions");

export const addChecksum = ({ name, text }: SqlFile): ChecksummedFile => ({
  name,
  text,
  checksum: new Bun.CryptoHasher("sha256").update(text).digest("hex"),
});

/** The SQL files included in this build, in order. */
export const bundledSql: SqlSources = {
  migrations: migrationFiles.map(addChecksum),
  functions: functionFiles.map(addChecksum),
  functionsRevision: readFunctionsRevision(),
};

export { MigrationError };

/** A row of `migrations`. `version` is the Parley version that applied it, if known. */
export type AppliedMigration = { name: string; checksum: string; applied_at: Date; version: string | null };
type AppliedState = {
  migrations: Map<string, AppliedMigration>;
  functions: Map<string, string>;
  functionsRevision: number;
};

/** The maximum number of attempts per step, if it is blocked by other sessions' locks or deadlocks with them. */
const ATTEMPTS_MAX = 30;
const RETRY_DELAY_MS = 500;

export type MigrateOptions = {
  sources?: SqlSources;
  /** Aborts the wait for another instance's migration. */
  signal?: AbortSignal;
};

/**
 * Migrates the database: applies pending migrations, and then changed functions. Several instances may call this at the same time, while
 * instances of older versions are running. After an error, the steps that were already applied remain.
 * @returns the names of the migrations that were applied.
 * @throws MigrationError if the database has a migration that this build doesn't know, or that differs from this build's.
 * @throws UnsuitableDatabaseError if the database is unsuitable, before anything is changed. Also throws the signal's reason.
 */
export async function migrate(
  database: Database,
  log: Log,
  { sources = bundledSql, signal }: MigrateOptions = {},
): Promise<string[]> {
  await checkServer(database);
  await checkMigrationTables(database);
  const appliedNames: string[] = [];
  let attempts = 0;
  // Checks without the lock first, so that an instance doesn't wait if the database is up to date.
  while (!isUpToDate(sources, await readAppliedState(database))) {
    try {
      const name = await withMigrationLock(database, (sql) => applyNextMigration(database, sql, log, sources), signal);
      if (name) appliedNames.push(name);
      attempts = 0;
    } catch (error) {
      attempts += 1;
      if (!isLockConflict(error) || attempts >= ATTEMPTS_MAX) throw error;
      log.warn({ err: error }, "a migration was blocked by locks of other sessions; retrying");
      await Bun.sleep(RETRY_DELAY_MS * (1 + Math.random()));
    }
  }
  return appliedNames;
}

/**
 * Checks whether `migrate` would succeed on this database. Read-only.
 * @throws MigrationError and UnsuitableDatabaseError like `migrate`.
 */
export async function checkMigratable(sql: Sql, sources: SqlSources = bundledSql): Promise<void> {
  await checkServer(sql);
  await checkMigrationTables(sql);
  const { migrations } = await readAppliedState(sql);
  requireKnownMigrations([...migrations.values()], sources.migrations);
  await checkTablesCanBeCreated(sql, migrations.size === 0 ? listTables(sources) : []);
}

/** Applies the next migration, or all functions if there is none. @returns the migration's name, or null. */
async function applyNextMigration(database: Database, sql: Sql, log: Log, sources: SqlSources): Promise<string | null> {
  const applied = await readAppliedState(sql);
  await checkTablesCanBeCreated(sql, applied.migrations.size === 0 ? listTables(sources) : []);
  await createMigrationTables(sql);
  // Another instance may have migrated the database in the meantime, possibly to a newer version.
  if (isUpToDate(sources, applied)) return null;
  const next = sources.migrations.find(({ name }) => !applied.migrations.has(name));
  if (!next) {
    await applyFunctions(sql, log, sources, applied.functions);
    return null;
  }
  if (NO_TRANSACTION.test(next.text)) {
    // The last query's portal keeps its snapshot while the transaction is idle, and the index build would wait for that snapshot.
    // A query in the simple protocol closes the portal.
    await sql`select 1`.simple();
    await runOutsideTransaction(database, next);
  } else await sql.unsafe(next.text);
  await sql`insert into migrations (name, checksum, version) values (${next.name}, ${next.checksum}, ${describeBuild()})`;
  // Functions must be applied again, because the migration may have dropped them or the objects they use.
  await sql`delete from sql_functions`;
  if (next === sources.migrations.at(-1)) await applyFunctions(sql, log, sources, new Map());
  log.debug({ migration: next.name }, "migration applied");
  return next.name;
}

const listTables = ({ migrations }: SqlSources): string[] =>
  migrations.flatMap(({ text }) => [...text.matchAll(CREATED_TABLE)].map(([, name = ""]) => name));

/** Returns whether nothing is pending. @throws MigrationError like `migrate`. */
function isUpToDate({ migrations, functions, functionsRevision }: SqlSources, applied: AppliedState): boolean {
  requireKnownMigrations([...applied.migrations.values()], migrations);
  if (migrations.some(({ name }) => !applied.migrations.has(name))) return false;
  if (applied.functionsRevision > functionsRevision) return true;
  return functions.every(({ name, checksum }) => applied.functions.get(name) === checksum);
}

/**
 * Checks that this build knows all applied migrations.
 * @param subject what the migrations were applied to, for the error message.
 * @throws MigrationError if one of them is unknown, or differs from this build's.
 */
export function requireKnownMigrations(
  applied: readonly Omit<AppliedMigration, "applied_at">[],
  migrations: readonly ChecksummedFile[] = bundledSql.migrations,
  subject = "database",
): void {
  const knownChecksums = new Map(migrations.map(({ name, checksum }) => [name, checksum]));
  for (const { name, checksum, version } of applied) {
    const appliedBy = version === null ? "" : ` (applied by Parley ${version})`;
    const remedy = version === null ? "the version that applied it" : `Parley ${version}`;
    if (!knownChecksums.has(name))
      throw new MigrationError(
        `The ${subject} has a migration that Parley ${build.version} does not know: ${name}${appliedBy}. Use ${remedy}, or a newer version.`,
      );
    if (knownChecksums.get(name) !== checksum)
      throw new MigrationError(
        `${name} differs from the migration that this ${subject} already has${appliedBy}. Use ${remedy}, or a different ${subject}.`,
      );
  }
}

async function applyFunctions(
  sql: Sql,
  log: Log,
  { functions, functionsRevision }: SqlSources,
  applied: Map<string, string>,
): Promise<void> {
  // Functions may refer to functions that are created later.
  await sql`set local check_function_bodies = off`;
  for (const { name, text, checksum } of functions) {
    if (applied.get(name) === checksum) continue;
    await sql.unsafe(text);
    await sql`
      insert into sql_functions (name, checksum, revision) values (${name}, ${checksum}, ${functionsRevision})
      on conflict (name) do update set checksum = excluded.checksum, revision = excluded.revision, applied_at = now()`;
    log.debug({ file: name }, "functions applied");
  }
}

const describeBuild = (): string =>
  build.commit === "source" ? build.version : `${build.version}, commit ${build.commit}`;

export async function createMigrationTables(sql: Sql): Promise<void> {
  await sql`
    create table if not exists migrations (
      name text primary key, checksum text not null, applied_at timestamptz not null default now(), version text)`;
  await sql`
    create table if not exists sql_functions (
      name text primary key, checksum text not null, revision integer not null,
      applied_at timestamptz not null default now())`;
}

/** Reads the rows of `migrations`, ordered by name. Returns an empty list if the table is missing. */
export const readAppliedMigrations = async (sql: Sql): Promise<AppliedMigration[]> => [
  ...(await readAppliedState(sql)).migrations.values(),
];

async function readAppliedState(sql: Sql): Promise<AppliedState> {
  const [state] = await sql<{ migrations: boolean; functions: boolean }[]>`
    select to_regclass('migrations') is not null as migrations, to_regclass('sql_functions') is not null as functions`;
  // Reads the version through JSON, because tables created by early builds lack this column.
  const migrations = state?.migrations
    ? await sql<AppliedMigration[]>`
        select name, checksum, applied_at, to_jsonb(m) ->> 'version' as version from migrations m order by name collate "C"`
    : [];
  const functions = state?.functions
    ? await sql<{ name: string; checksum: string; revision: number }[]>`
        select name, checksum, revision from sql_functions`
    : [];
  return {
    migrations: new Map(migrations.map((row) => [row.name, row])),
    functions: new Map(functions.map(({ name, checksum }) => [name, checksum])),
    functionsRevision: Math.max(0, ...functions.map(({ revision }) => revision)),
  };
}

/** Lists every migration that this build or the database knows, with its state. Changes nothing. */
export async function listMigrations(sql: Sql, { migrations }: SqlSources = bundledSql): Promise<MigrationStatus[]> {
  const applied = (await readAppliedState(sql)).migrations;
  const known = migrations.map(({ name, checksum }): MigrationStatus => {
    const row = applied.get(name);
    if (!row) return { name, applied_at: null, state: "pending" };
    return { name, applied_at: row.applied_at, state: row.checksum === checksum ? "applied" : "changed" };
  });
  const names = new Set(migrations.map(({ name }) => name));
  const unknown = [...applied.values()]
    .filter(({ name }) => !names.has(name))
    .map(({ name, applied_at }): MigrationStatus => ({ name, applied_at, state: "unknown" }));
  return [...known, ...unknown].sort((a, b) => a.name.localeCompare(b.name));
}
