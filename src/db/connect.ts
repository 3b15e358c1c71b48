import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import type { Config } from "../config.ts";
import { abortable } from "../lib/abortable.ts";
import { explainLoopback } from "../lib/container.ts";
import type { Log } from "../lib/log.ts";
import type { Tracing } from "../lib/tracing/tracing.ts";
import { parseDatabaseAddress } from "./address.ts";
import {
  type Database,
  type DatabaseOptions,
  findDatabaseTarget,
  openDatabase,
  SIDE_CONNECTIONS_MAX,
} from "./client.ts";
import { DataDirectoryInUseError, findRunningPostgres, startEmbeddedPostgres } from "./embedded.ts";
import { explainDatabaseError } from "./explain.ts";
import { LANES_WAITING_MAX } from "./group-commit.ts";
import { isTemporary } from "./retry.ts";
import { prepareSession, terminateSessions } from "./session-check.ts";
import { createSlowStatementLog } from "./slow-statements.ts";
import { checkServer, checkWritable, DatabaseNotReadyError, UnsuitableDatabaseError } from "./suitability.ts";
import { findMissingTls } from "./tls-check.ts";

/** The maximum time to wait for running queries when closing the pool. */
const CLOSE_TIMEOUT_S = 5;
/**
 * The connections of two group commits, for sent messages and for completed answers. Each group commit has one connection for batches, and
 * one for each waiting lane.
 */
const COMMIT_CONNECTIONS_MAX = 2 * (1 + LANES_WAITING_MAX);
/** The connections for analytics (src/modules/analytics): one for reads, one for the job. */
const ANALYTICS_CONNECTIONS_MAX = 2;
/** The connections for imports (src/modules/imports/job.ts). */
const IMPORT_CONNECTIONS_MAX = 2;
/** The connections for LISTEN and NOTIFY (src/realtime/bus-postgres.ts), used with `DATABASE_URL` but without `REDIS_URL`. */
const BUS_CONNECTIONS_MAX = 2;
/** The maximum number of connections in addition to `DATABASE_POOL_SIZE`. Tested in test/db/connections.test.ts. */
export const EXTRA_CONNECTIONS_MAX =
  SIDE_CONNECTIONS_MAX +
  COMMIT_CONNECTIONS_MAX +
  ANALYTICS_CONNECTIONS_MAX +
  IMPORT_CONNECTIONS_MAX +
  BUS_CONNECTIONS_MAX;
const RETRY_DELAY_MIN_MS = 250;
const RETRY_DELAY_MAX_MS = 5_000;

export type DatabaseConnection = {
  database: Database;
  /** `embedded` is the Postgres bundled with Parley. `server` is the server in `DATABASE_URL`. */
  kind: "embedded" | "server";
  /** Closes the pool within 5 seconds, and stops the embedded Postgres if this process started it. Idempotent. */
  close(): Promise<void>;
};

type DatabaseConfig = Pick<Config, "DATABASE_URL" | "DATABASE_POOL_SIZE" | "DATA_DIR"> &
  Partial<Pick<Config, "DATABASE_SLOW_QUERY_MS">>;

export type ConnectOptions = {
  /** Whether a running Parley's embedded Postgres can be used. Short-lived commands set this. */
  canUseRunningPostgres?: boolean;
  /** Called with the time that each statement waited for a connection. */
  onWait?(waitMs: number): void;
  /** If absent or null, statements aren't traced. */
  tracing?: Tracing | null;
};

/**
 * Opens the database in `DATABASE_URL`, or starts the embedded Postgres if `DATABASE_URL` isn't set. Doesn't wait until the server is
 * available (see `waitForDatabase`).
 * @throws ConfigError if `DATABASE_URL` is malformed.
 * @throws DataDirectoryInUseError if another Parley uses `DATA_DIR` and `canUseRunningPostgres` is false.
 * @throws EmbeddedPostgresError if the embedded Postgres can't start.
 */
export async function connectDatabase(
  config: DatabaseConfig,
  log: Log,
  options: ConnectOptions = {},
): Promise<DatabaseConnection> {
  const poolSize = config.DATABASE_POOL_SIZE;
  const slowStatementLog = createSlowStatementLog(log, config.DATABASE_SLOW_QUERY_MS ?? 0);
  const observer = { onStatement: slowStatementLog.add, onWait: options.onWait ?? (() => {}) };
  const commonOptions = { poolSize, observer, tracing: options.tracing };
  if (config.DATABASE_URL) return connect("server", { target: { url: config.DATABASE_URL }, ...commonOptions });
  const { stop, ...target } = await startOrFindEmbedded(config, log, options);
  return connect("embedded", { target, ...commonOptions }, stop);
}

async function startOrFindEmbedded(
  config: DatabaseConfig,
  log: Log,
  { canUseRunningPostgres = false }: ConnectOptions,
) {
  const dataDir = config.DATA_DIR;
  try {
    const poolSize = config.DATABASE_POOL_SIZE + EXTRA_CONNECTIONS_MAX;
    return await startEmbeddedPostgres({ dataDir, poolSize, log });
  } catch (error) {
    const running =
      canUseRunningPostgres && error instanceof DataDirectoryInUseError ? findRunningPostgres(dataDir) : null;
    if (running === null) throw error;
    return running;
  }
}

function connect(
  kind: DatabaseConnection["kind"],
  options: DatabaseOptions,
  stop?: () => Promise<void>,
): DatabaseConnection {
  const database = openDatabase(options);
  let closePromise: Promise<void> | undefined;
  const close = async () => {
    await database.end({ timeout: CLOSE_TIMEOUT_S });
    await stop?.();
  };
  return {
    database,
    kind,
    close() {
      closePromise ??= close();
      return closePromise;
    },
  };
}

/**
 * Waits until the database is ready, and then runs `work`. Starts over if the database fails during `work`. Logs why each attempt
 * failed. There is no timeout.
 * @throws UnsuitableDatabaseError if waiting would not help. Also throws errors of `work` that aren't temporary, and the signal's
 * reason.
 */
export async function waitForDatabase(
  database: Database,
  log: Log,
  signal: AbortSignal,
  work: () => Promise<unknown> = async () => {},
): Promise<void> {
  for (let delayMs = RETRY_DELAY_MIN_MS; ; delayMs = Math.min(delayMs * 2, RETRY_DELAY_MAX_MS)) {
    signal.throwIfAborted();
    let isPrepared = false;
    try {
      await abortable(prepareDatabase(database, log), signal);
      isPrepared = true;
      await work();
      return;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof UnsuitableDatabaseError || (isPrepared && !isTemporary(error))) throw error;
      const reason = await abortable(describeConnectError(error, database), signal);
      log.error({ reason, retry_in_ms: delayMs }, "the database is not responding; retrying");
    }
    await sleep(delayMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

async function prepareDatabase(database: Database, log: Log): Promise<void> {
  await prepareSession(database, log);
  await checkServer(database);
  try {
    await checkWritable(database);
  } catch (error) {
    // The operator may have changed the role's or database's settings. Only new connections use them.
    if (error instanceof DatabaseNotReadyError) await terminateSessions(database);
    throw error;
  }
}

/** Describes why a database can't be used. The driver's errors contain host, port, user and database, but never the password. */
export async function describeConnectError(error: unknown, database: Database): Promise<string> {
  if (!(error instanceof Error)) return String(error);
  const target = findDatabaseTarget(database);
  const hasResponded = error instanceof DatabaseNotReadyError || error instanceof postgres.PostgresError;
  const missingTls =
    !hasResponded && target && "url" in target ? await findMissingTls(parseDatabaseAddress(target.url)) : null;
  if (missingTls) return missingTls;
  const code = "code" in error ? ` (${error.code})` : "";
  const reason = explainDatabaseError(error) ?? `${error.message}${code}`;
  const host = !hasResponded && target && "url" in target ? parseDatabaseAddress(target.url).host : undefined;
  return host === undefined ? reason : reason + explainLoopback(host);
}
