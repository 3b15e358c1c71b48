import type { Log } from "../../lib/log.ts";
import { createSidePool, type Database, getPooling, type Sql } from "../client.ts";
import { bundledSql, migrate, requireKnownMigrations } from "../migrate.ts";
import { MIGRATION_LOCK } from "../migration-lock.ts";
import { checkServer } from "../suitability.ts";
import type { ByteSource } from "./byte-reader.ts";
import { listCreatedTables } from "./contents.ts";
import { ArchiveError, createDamagedError } from "./error.ts";
import { openLoader } from "./load.ts";
import type { ArchiveHeader, ArchiveManifest } from "./manifest.ts";
import { readBackup } from "./read-backup.ts";
import type { ReadOptions } from "./reader.ts";
import { createTables, dropEmptyTables, dropIndexes, rebuildIndexes } from "./schema.ts";
import type { BackupSummary, Progress } from "./summary.ts";

/** The timeout for a lock on a table that another session is reading. */
const LOCK_TIMEOUT_MS = 5_000;
/** The memory for building indexes. Postgres uses less for smaller tables. */
const MAINTENANCE_MEMORY = "128MB";
const ISOLATION = "isolation level read committed";

export type RestoreOptions = ReadOptions & {
  /** Must have been opened by openDatabase. The restore uses two additional connections. */
  database: Database;
  log: Log;
  /**
   * Called with the server's secret if the backup contains it. It is called before the commit, so that the data is never stored
   * without its secret.
   */
  onSecret?: ((secret: string) => Promise<void>) | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Called for each step after the rows are loaded. */
  onStep?: ((step: "indexes" | "migrations" | "statistics") => void) | undefined;
  /** The end of the error message if the database isn't empty. It tells the operator what to do. */
  notEmptyRemedy: string;
};

/** The restored contents, and the migrations applied afterwards. */
export type RestoreSummary = BackupSummary & { migrated: string[] };

/**
 * Loads a backup into an empty database. Creates, fills and checks the tables in a single transaction, and then migrates the
 * schema.
 * @throws ArchiveError if the backup is damaged or was made by a newer Parley, or if the database is not empty or is in use. Also
 * throws errors from the source and the driver, and the signal's reason.
 */
export async function restoreBackup(source: ByteSource, options: RestoreOptions): Promise<RestoreSummary> {
  const { database, log, onStep } = options;
  await checkServer(database);
  if (getPooling(database) === "transaction")
    throw new ArchiveError(
      "target",
      "DATABASE_URL points to a pooler, which keeps other connections open; for the restore, connect DATABASE_URL directly to Postgres.",
    );
  const summary = await loadExclusively(source, options);
  // The data is committed. Parley would also migrate it at its next start.
  onStep?.("migrations");
  try {
    return { ...summary, migrated: await migrate(database, log) };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ArchiveError(
      "target",
      `The backup is loaded, but migrating it failed (${reason}); run \`parley migrate\`.`,
      {
        cause,
      },
    );
  }
}

/** Loads the backup in one transaction, which is rolled back by any error or a lost connection. */
async function loadExclusively(source: ByteSource, options: RestoreOptions): Promise<BackupSummary> {
  const { signal } = options;
  const pool = createSidePool(options.database, 1, { statementTimeoutMs: 0, closeTimeoutS: 0 });
  const closePool = () => void pool.close();
  signal?.addEventListener("abort", closePool, { once: true });
  let failure: unknown;
  try {
    signal?.throwIfAborted();
    const summary = await pool.open().begin(ISOLATION, async (sql) => {
      try {
        const loaded = await load(sql, source, options);
        // Aborts are ignored from here on. Otherwise, an abort during the commit would wrongly report that nothing was restored.
        signal?.throwIfAborted();
        signal?.removeEventListener("abort", closePool);
        return loaded;
      } catch (error) {
        failure = error;
        // Closes the connection, because otherwise a running COPY would block the rollback.
        void pool.close();
        throw error;
      }
    });
    return summary as BackupSummary;
  } catch (error) {
    signal?.throwIfAborted();
    throw failure ?? error;
  } finally {
    signal?.removeEventListener("abort", closePool);
    await pool.close();
  }
}

async function load(sql: Sql, source: ByteSource, options: RestoreOptions): Promise<BackupSummary> {
  const { onSecret, onProgress, onStep, notEmptyRemedy } = options;
  let header: ArchiveHeader | undefined;
  let secret: string | undefined;
  const loader = openLoader(sql);
  await sql`
    select set_config('statement_timeout', '0', true), set_config('lock_timeout', ${`${LOCK_TIMEOUT_MS}ms`}, true),
      set_config('idle_in_transaction_session_timeout', '0', true), set_config('tcp_user_timeout', '0', true),
      set_config('maintenance_work_mem', ${MAINTENANCE_MEMORY}, true)`;
  let indexes: Awaited<ReturnType<typeof dropIndexes>> | undefined;

  const summary = await readBackup(source, options, {
    onProgress,

    async onHeader(backupHeader) {
      header = backupHeader;
      checkSchema(backupHeader);
      await lockDatabase(sql);
      await dropEmptyTables(sql, notEmptyRemedy);
      await createTables(sql, backupHeader.migrations);
      indexes = await dropIndexes(sql);
      await loader.prepare(
        backupHeader.tables,
        listCreatedTables(new Set(backupHeader.migrations.map(({ name }) => name))),
      );
    },

    async onSecret(backupSecret) {
      secret = backupSecret;
    },

    onRows: ({ name, columns }, content) => loader.add(name, columns, content),
    onTableEnd: ({ name }) => loader.finish(name),

    async onManifest(manifest) {
      onStep?.("indexes");
      await setSequences(sql, manifest);
      await rebuildIndexes(sql, indexes ?? []);
      await checkRowCounts(sql, manifest);
    },
  });
  // `readBackup` has also verified the file's checksum.
  if (header) await expireLeases(sql, header.created_at);
  onStep?.("statistics");
  for (const { name } of summary.tables) await sql`analyze ${sql(name)}`;
  if (secret !== undefined) await onSecret?.(secret);
  return summary;
}

/** Checks that this build can create the backup's schema. @throws ArchiveError or MigrationError if it can't. */
function checkSchema({ migrations, parley }: ArchiveHeader): void {
  const knownNames = new Set(bundledSql.migrations.map(({ name }) => name));
  const unknownMigration = migrations.find(({ name }) => !knownNames.has(name));
  if (unknownMigration)
    throw new ArchiveError(
      "newer",
      `The backup was made by a newer Parley (${parley.version}, migration ${unknownMigration.name}), which this one cannot read; restore it with Parley ${unknownMigration.version ?? parley.version}, or a newer version.`,
    );
  requireKnownMigrations(migrations, bundledSql.migrations, "backup");
}

/**
 * Acquires the migration lock, so that instances that start now wait until the restore is complete.
 * @throws ArchiveError if the database is in use.
 */
async function lockDatabase(sql: Sql): Promise<void> {
  const [state] = await sql<{ is_locked: boolean; others: number }[]>`
    select pg_try_advisory_xact_lock(${MIGRATION_LOCK}) as is_locked, (
      select count(*)::int from pg_stat_activity
      where datname = current_database() and application_name like 'parley %'
        and application_name <> current_setting('application_name')
    ) as others`;
  if (state?.is_locked && state.others === 0) return;
  throw new ArchiveError(
    "target",
    "Parley is running on this database, or a killed restore is still running; stop every instance, and restore again.",
  );
}

async function setSequences(sql: Sql, { sequences }: ArchiveManifest): Promise<void> {
  for (const { name, last_value, is_called } of sequences) {
    const [sequence] = await sql<{ name: string | null }[]>`select to_regclass(quote_ident(${name}))::text as name`;
    if (!sequence?.name) throw createDamagedError(`the sequence ${name} is missing`);
    await sql`select setval(${sequence.name}::regclass, ${last_value}::bigint, ${is_called})`;
  }
}

/** Compares the manifest's row counts with those in Postgres. */
async function checkRowCounts(sql: Sql, { tables }: ArchiveManifest): Promise<void> {
  for (const { name, rows } of tables) {
    const [actual] = await sql<{ rows: number }[]>`select count(*) as rows from ${sql(name)}`;
    if (Number(actual?.rows) !== rows)
      throw new Error(`${name} has ${actual?.rows} rows after the restore instead of ${rows}; nothing was changed.`);
  }
}

/**
 * Expires all leases, because the instances that held them no longer exist. Other instances can then take over their work
 * immediately. Scheduled jobs keep their time, unless this server's clock is behind the backup's.
 */
async function expireLeases(sql: Sql, createdAt: string): Promise<void> {
  const tables = await sql<{ name: string }[]>`
    select c.relname as name from pg_class c
    join pg_attribute l on l.attrelid = c.oid and l.attname = 'lease_until'
    join pg_attribute o on o.attrelid = c.oid and o.attname = 'owner'
    where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'`;
  for (const { name } of tables)
    if (name === "jobs")
      await sql`
        update jobs set lease_until = lease_until - (${createdAt}::timestamptz - now())
        where ${createdAt}::timestamptz > now()`;
    else await sql`update ${sql(name)} set lease_until = now() where lease_until > now()`;
}
