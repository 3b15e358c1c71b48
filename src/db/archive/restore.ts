import type { Log } from "../../lib/log.ts";
import { createSidePool, type Database, getPooling, type Sql } from "../client.ts";
import { carried, migrate, requireKnown } from "../migrate.ts";
import { MIGRATION_LOCK } from "../migration-lock.ts";
import { checkServer } from "../suitability.ts";
import type { ByteSource } from "./byte-reader.ts";
import { listCreatedTables } from "./contents.ts";
import { ArchiveError, createDamaged } from "./error.ts";
import { openLoader } from "./load.ts";
import type { ArchiveHeader, ArchiveManifest } from "./manifest.ts";
import { readBackup } from "./read-backup.ts";
import type { ReadOptions } from "./reader.ts";
import { createTables, dropEmptyTables, rebuildIndexes, takeIndexes } from "./schema.ts";
import type { BackupSummary, Progress } from "./summary.ts";

/** For a table that somebody is looking at. */
const LOCK_TIMEOUT_MS = 5_000;
/** For building indexes; Postgres takes less where a table is smaller. */
const MAINTENANCE_MEMORY = "128MB";
const ISOLATION = "isolation level read committed";

export type RestoreOptions = ReadOptions & {
  /** Opened by openDatabase. Two further connections are used. */
  database: Database;
  log: Log;
  /** Gets the server's secret, if it is in the backup: before the data is committed, so that it never lies there without it. */
  onSecret?: ((secret: string) => Promise<void>) | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  /** What is being done after the rows were read. */
  onStep?: ((step: "indexes" | "migrations" | "statistics") => void) | undefined;
  /** What to do about a database that is not empty, as the end of a sentence. */
  emptyRemedy: string;
};

/** What has come into the database, and the migrations that were applied after it. */
export type RestoreSummary = BackupSummary & { migrated: string[] };

/**
 * Loads a backup into an empty database: its tables are made as they were, filled, and checked in one transaction, so that
 * there is all of it or nothing, whenever it ends. Then the schema is brought up to date.
 * @throws ArchiveError when the backup is damaged or newer, or the database is not empty, or is in use; what the source
 * throws; the driver's errors; the signal's reason.
 */
export async function restoreBackup(source: ByteSource, options: RestoreOptions): Promise<RestoreSummary> {
  const { database, log, onStep } = options;
  await checkServer(database);
  if (getPooling(database) === "transaction")
    throw new ArchiveError(
      "target",
      "DATABASE_URL leads through a pooler, which keeps connections of others open; for the restore, name Postgres itself in DATABASE_URL.",
    );
  const summary = await loadAlone(source, options);
  // All is there now: what follows is what every start of Parley does.
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

/** In one transaction, which is rolled back by any error, and when the connection is lost. */
async function loadAlone(source: ByteSource, options: RestoreOptions): Promise<BackupSummary> {
  const { signal } = options;
  const pool = createSidePool(options.database, 1, { statementTimeoutMs: 0, closeTimeoutS: 0 });
  const abort = () => void pool.close();
  signal?.addEventListener("abort", abort, { once: true });
  let failure: unknown;
  try {
    signal?.throwIfAborted();
    const summary = await pool.open().begin(ISOLATION, async (sql) => {
      try {
        const loaded = await load(sql, source, options);
        // From here on an abort comes too late: what it told would not be true.
        signal?.throwIfAborted();
        signal?.removeEventListener("abort", abort);
        return loaded;
      } catch (error) {
        failure = error;
        // A COPY that is under way would keep the connection, and the end of the transaction would wait for it.
        void pool.close();
        throw error;
      }
    });
    return summary as BackupSummary;
  } catch (error) {
    signal?.throwIfAborted();
    throw failure ?? error;
  } finally {
    signal?.removeEventListener("abort", abort);
    await pool.close();
  }
}

async function load(sql: Sql, source: ByteSource, options: RestoreOptions): Promise<BackupSummary> {
  const { onSecret, onProgress, onStep, emptyRemedy } = options;
  let header: ArchiveHeader | undefined;
  let secret: string | undefined;
  const loader = openLoader(sql);
  await sql`
    select set_config('statement_timeout', '0', true), set_config('lock_timeout', ${`${LOCK_TIMEOUT_MS}ms`}, true),
      set_config('idle_in_transaction_session_timeout', '0', true), set_config('tcp_user_timeout', '0', true),
      set_config('maintenance_work_mem', ${MAINTENANCE_MEMORY}, true)`;
  let indexes: Awaited<ReturnType<typeof takeIndexes>> | undefined;

  const summary = await readBackup(source, options, {
    onProgress,

    async onHeader(read) {
      header = read;
      checkSchema(read);
      await takeDatabase(sql);
      await dropEmptyTables(sql, emptyRemedy);
      await createTables(sql, read.migrations);
      indexes = await takeIndexes(sql);
      await loader.prepare(read.tables, listCreatedTables(new Set(read.migrations.map(({ name }) => name))));
    },

    async onSecret(read) {
      secret = read;
    },

    onRows: ({ name, columns }, content) => loader.add(name, columns, content),
    onTableEnd: ({ name }) => loader.end(name),

    async onManifest(manifest) {
      onStep?.("indexes");
      await setSequences(sql, manifest);
      await rebuildIndexes(sql, indexes ?? []);
      await checkCounts(sql, manifest);
    },
  });
  // The file's own checksum is right, too.
  if (header) await endLeases(sql, header.created_at);
  onStep?.("statistics");
  for (const { name } of summary.tables) await sql`analyze ${sql(name)}`;
  if (secret !== undefined) await onSecret?.(secret);
  return summary;
}

/** @throws ArchiveError or MigrationError for a schema that this build can't make. */
function checkSchema({ migrations, parley }: ArchiveHeader): void {
  const known = new Set(carried.migrations.map(({ name }) => name));
  const unknown = migrations.find(({ name }) => !known.has(name));
  if (unknown)
    throw new ArchiveError(
      "newer",
      `The backup was made by a newer Parley (${parley.version}, migration ${unknown.name}), which this one cannot read; restore it with Parley ${unknown.version ?? parley.version}, or a newer version.`,
    );
  requireKnown(migrations, carried.migrations, "backup");
}

/**
 * Keeps instances that start now waiting, as a migration does, until all is there.
 * @throws ArchiveError when somebody uses the database.
 */
async function takeDatabase(sql: Sql): Promise<void> {
  const [state] = await sql<{ is_locked: boolean; others: number }[]>`
    select pg_try_advisory_xact_lock(${MIGRATION_LOCK}) as is_locked, (
      select count(*)::int from pg_stat_activity
      where datname = current_database() and application_name like 'parley %'
        and application_name <> current_setting('application_name')
    ) as others`;
  if (state?.is_locked && state.others === 0) return;
  throw new ArchiveError(
    "target",
    "A Parley is running on this database, or a restore that was killed has not ended yet; stop every instance, and restore again.",
  );
}

async function setSequences(sql: Sql, { sequences }: ArchiveManifest): Promise<void> {
  for (const { name, last_value, is_called } of sequences) {
    const [found] = await sql<{ name: string | null }[]>`select to_regclass(quote_ident(${name}))::text as name`;
    if (!found?.name) throw createDamaged(`there is no sequence ${name}`);
    await sql`select setval(${found.name}::regclass, ${last_value}::bigint, ${is_called})`;
  }
}

/** What lies there now, counted by Postgres. */
async function checkCounts(sql: Sql, { tables }: ArchiveManifest): Promise<void> {
  for (const { name, rows } of tables) {
    const [count] = await sql<{ rows: number }[]>`select count(*) as rows from ${sql(name)}`;
    if (Number(count?.rows) !== rows)
      throw new Error(`${name} has ${count?.rows} rows after the restore instead of ${rows}; nothing was changed.`);
  }
}

/**
 * What instances were doing when the backup was made is taken over as soon as one starts: those instances are gone. Waiting
 * jobs keep their time, unless this server's clock is behind the other one's.
 */
async function endLeases(sql: Sql, createdAt: string): Promise<void> {
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
