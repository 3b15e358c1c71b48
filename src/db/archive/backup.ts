import type { Readable } from "node:stream";
import { build } from "../../lib/build.ts";
import { createSidePool, type Database, type Sql } from "../client.ts";
import { type AppliedMigration, readAppliedMigrations, requireKnownMigrations } from "../migrate.ts";
import { listSequences, listStoredTables, quoteIdentifier, type StoredTable } from "./contents.ts";
import { createEncryptingSink } from "./encryption.ts";
import { ArchiveError } from "./error.ts";
import { PART_BYTES } from "./format.ts";
import {
  type ArchiveHeader,
  type ArchiveManifest,
  getPartPath,
  HEADER_PATH,
  MANIFEST_PATH,
  SECRET_PATH,
  type Sequence,
  type TableSummary,
} from "./manifest.ts";
import { createRowDigest } from "./row-digest.ts";
import { fingerprintSecret, type ServerSecret } from "./secret.ts";
import { type BackupSummary, createSummary, type Progress } from "./summary.ts";
import { type ArchiveWriter, openArchiveWriter, type Sink } from "./writer.ts";

/** The maximum time between two statements. The snapshot blocks vacuum, so a frozen process must not keep it open. */
const IDLE_TIMEOUT_MS = 600_000;
/** The timeout for a lock on a table that a migration is changing. */
const LOCK_TIMEOUT_MS = 30_000;
const ISOLATION = "isolation level repeatable read read only";

export type BackupOptions = {
  /** Must have been opened by openDatabase. The backup uses an additional connection. */
  database: Database;
  sink: Sink;
  /** The server's secret, or null if it is unknown. It is included in the backup unless `JWT_SECRET` sets it. */
  secret: ServerSecret | null;
  /** If set, the backup is encrypted. */
  passphrase?: string | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Aborts the backup. The file is then unusable. */
  signal?: AbortSignal | undefined;
};

/**
 * Writes a backup of all stored data from a single snapshot, while Parley keeps running. Uses a limited amount of memory.
 * @throws ArchiveError if there is nothing to back up.
 * @throws MigrationError if a newer Parley has migrated the database. Also throws errors from the sink and the driver, and the
 * signal's reason.
 */
export async function writeBackup(options: BackupOptions): Promise<BackupSummary & { fileBytes: number }> {
  const { database, passphrase, signal } = options;
  let fileBytes = 0;
  const sink: Sink = async (bytes) => {
    fileBytes += bytes.length;
    await options.sink(bytes);
  };
  const encryptingSink = passphrase === undefined ? null : await createEncryptingSink(sink, passphrase);
  const pool = createSidePool(database, 1, { statementTimeoutMs: 0, closeTimeoutS: 0 });
  const closePool = () => void pool.close();
  signal?.addEventListener("abort", closePool, { once: true });
  let failure: unknown;
  try {
    signal?.throwIfAborted();
    const writer = await openArchiveWriter(encryptingSink?.sink ?? sink);
    const summary = await pool.open().begin(ISOLATION, async (sql) => {
      try {
        return await writeContents(sql, writer, options);
      } catch (error) {
        failure = error;
        // Closes the connection, because otherwise a running COPY would block the rollback.
        void pool.close();
        throw error;
      }
    });
    await encryptingSink?.close();
    return { ...(summary as BackupSummary), fileBytes };
  } catch (error) {
    await encryptingSink?.abort();
    signal?.throwIfAborted();
    throw failure ?? error;
  } finally {
    signal?.removeEventListener("abort", closePool);
    await pool.close();
  }
}

async function writeContents(sql: Sql, writer: ArchiveWriter, options: BackupOptions): Promise<BackupSummary> {
  const { secret, passphrase } = options;
  await setTimeouts(sql);
  const migrations = await readAppliedMigrations(sql);
  if (migrations.length === 0)
    throw new ArchiveError("target", "The database has no Parley tables; there is nothing to back up.");
  requireKnownMigrations(migrations);
  const tables = await listStoredTables(sql, migrations);
  const [server] = await sql<{ version: string; at: Date }[]>`
    select current_setting('server_version') as version, now() as at`;
  const header: ArchiveHeader = {
    created_at: (server?.at ?? new Date()).toISOString(),
    parley: { version: build.version, commit: build.commit },
    postgres_version: server?.version ?? "",
    migrations: await describeMigrations(sql, migrations),
    tables: tables.map(({ name, columns }) => ({ name, columns })),
    jwt_secret: {
      state: secret === null ? "unknown" : secret.isConfigured ? "configured" : "included",
      fingerprint: secret && fingerprintSecret(secret.value),
    },
  };
  await writer.add(HEADER_PATH, encodeJson(header));
  if (secret && !secret.isConfigured) await writer.add(SECRET_PATH, Buffer.from(`${secret.value}\n`));
  const manifest = await writeTables(sql, writer, tables, options);
  await writer.add(MANIFEST_PATH, encodeJson(manifest));
  await writer.finish();
  return createSummary(header, manifest, passphrase !== undefined);
}

/** Returns the migrations for the header, with full-precision timestamps. */
async function describeMigrations(
  sql: Sql,
  migrations: readonly AppliedMigration[],
): Promise<ArchiveHeader["migrations"]> {
  const times = await sql<{ name: string; at: string }[]>`
    select name, to_char(applied_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at from migrations`;
  const appliedAtByName = new Map(times.map(({ name, at }) => [name, at]));
  return migrations.map(({ name, checksum, version, applied_at }) => ({
    name,
    checksum,
    version,
    applied_at: appliedAtByName.get(name) ?? applied_at.toISOString(),
  }));
}

/** Sets the timeouts for this transaction only, so that they work behind a pooler. */
async function setTimeouts(sql: Sql): Promise<void> {
  await sql`
    select set_config('statement_timeout', '0', true), set_config('lock_timeout', ${`${LOCK_TIMEOUT_MS}ms`}, true),
      set_config('idle_in_transaction_session_timeout', ${`${IDLE_TIMEOUT_MS}ms`}, true),
      -- Backpressure: while the sink is slow, nothing is read from the connection.
      set_config('tcp_user_timeout', ${`${IDLE_TIMEOUT_MS}ms`}, true)`;
}

async function writeTables(
  sql: Sql,
  writer: ArchiveWriter,
  tables: StoredTable[],
  { onProgress, signal }: BackupOptions,
): Promise<ArchiveManifest> {
  const totalBytes = Math.max(
    1,
    tables.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
  );
  const tableSummaries: TableSummary[] = [];
  let bytesBefore = 0;
  let rows = 0;
  let dataBytes = 0;
  for (const table of tables) {
    const tableSummary = await writeTable(sql, writer, table, signal, (sums) => {
      // In COPY's text format, rows are about as large as in their table.
      const bytesInTable = Math.min(table.storedBytes, sums.bytes);
      onProgress?.({
        table: table.name,
        rows: rows + sums.rows,
        dataBytes: dataBytes + sums.bytes,
        fractionDone: Math.min(1, (bytesBefore + bytesInTable) / totalBytes),
      });
    });
    tableSummaries.push(tableSummary);
    bytesBefore += table.storedBytes;
    rows += tableSummary.rows;
    dataBytes += tableSummary.bytes;
  }
  return { tables: tableSummaries, sequences: await readSequences(sql, tables) };
}

async function writeTable(
  sql: Sql,
  writer: ArchiveWriter,
  { name, columns }: StoredTable,
  signal: AbortSignal | undefined,
  onPart: (sums: { rows: number; bytes: number }) => void,
): Promise<TableSummary> {
  const digest = createRowDigest();
  let partCount = 0;
  const addPart = async (content: Buffer) => {
    signal?.throwIfAborted();
    digest.add(content);
    partCount += 1;
    await writer.add(getPartPath(name, partCount), content);
    onPart(digest.getSums());
  };
  const copy = `copy ${quoteIdentifier(name)} (${columns.map(quoteIdentifier).join(", ")}) to stdout`;
  const stream: Readable = await sql.unsafe(copy).readable();
  let part = Buffer.allocUnsafe(PART_BYTES);
  let usedBytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>)
    for (let offset = 0; offset < chunk.length; ) {
      const copiedBytes = chunk.copy(part, usedBytes, offset);
      offset += copiedBytes;
      usedBytes += copiedBytes;
      if (usedBytes < PART_BYTES) continue;
      await addPart(part);
      part = Buffer.allocUnsafe(PART_BYTES);
      usedBytes = 0;
    }
  if (usedBytes > 0) await addPart(part.subarray(0, usedBytes));
  if (!digest.isComplete()) throw new Error(`The last row of ${name} is incomplete.`);
  return { name, parts: partCount, ...digest.getSums() };
}

/**
 * Reads the sequences' states. They aren't part of the snapshot, so numbers allocated after the snapshot are skipped, which is
 * harmless.
 */
async function readSequences(sql: Sql, tables: StoredTable[]): Promise<Sequence[]> {
  const names = await listSequences(
    sql,
    tables.map(({ name }) => name),
  );
  const sequences: Sequence[] = [];
  for (const name of names) {
    const [row] = await sql<{ last_value: string; is_called: boolean }[]>`
      select last_value::text, is_called from ${sql(name)}`;
    if (row) sequences.push({ name, ...row });
  }
  return sequences;
}

const encodeJson = (value: unknown): Buffer => Buffer.from(`${JSON.stringify(value, null, 2)}\n`);
