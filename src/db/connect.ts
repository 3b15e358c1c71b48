import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import type { Config } from "../config.ts";
import { abortable } from "../lib/abortable.ts";
import { explainLoopback } from "../lib/container.ts";
import type { Log } from "../lib/log.ts";
import type { Tracing } from "../lib/tracing/tracing.ts";
import { readDatabaseAddress } from "./address.ts";
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
import { endSessions, prepareSession } from "./session-check.ts";
import { createSlowStatements } from "./slow-statements.ts";
import { checkServer, checkWritable, DatabaseNotReadyError, UnsuitableDatabaseError } from "./suitability.ts";
import { findMissingTls } from "./tls-check.ts";

/** How long closing the pool waits for running queries. */
const CLOSE_TIMEOUT_S = 5;
/** Two group commits, for sent messages and for completed answers. Each has a connection for batches, and those of its lanes. */
const COMMIT_CONNECTIONS_MAX = 2 * (1 + LANES_WAITING_MAX);
/** Counting for analytics (src/modules/analytics): one connection for reads, one for the job. */
const COUNTING_CONNECTIONS_MAX = 2;
/** Connections with which imports write (src/modules/imports/job.ts). */
const IMPORT_CONNECTIONS_MAX = 2;
/** LISTEN and NOTIFY between instances (src/realtime/bus-postgres.ts): with DATABASE_URL and without REDIS_URL. */
const BUS_CONNECTIONS_MAX = 2;
/** The maximum number of connections besides DATABASE_POOL_SIZE. Tested in test/db/connections.test.ts. */
export const EXTRA_CONNECTIONS_MAX =
  SIDE_CONNECTIONS_MAX +
  COMMIT_CONNECTIONS_MAX +
  COUNTING_CONNECTIONS_MAX +
  IMPORT_CONNECTIONS_MAX +
  BUS_CONNECTIONS_MAX;
const RETRY_DELAY_MIN_MS = 250;
const RETRY_DELAY_MAX_MS = 5_000;

export type Connected = {
  database: Database;
  /** `embedded`: the Postgres bundled with Parley; `server`: the one of `DATABASE_URL`. */
  kind: "embedded" | "server";
  /** Closes the pool within 5 seconds, then stops the embedded Postgres if this process started it. Idempotent. */
  close(): Promise<void>;
};

type DatabaseConfig = Pick<Config, "DATABASE_URL" | "DATABASE_POOL_SIZE" | "DATA_DIR"> &
  Partial<Pick<Config, "DATABASE_SLOW_QUERY_MS">>;

export type ConnectOptions = {
  /** Whether to use the embedded Postgres of a running Parley, if there is one. For short commands. */
  canJoin?: boolean;
  /** Called with the time that each statement waited for a connection. */
  onWait?(waitMs: number): void;
  /** Absent or null: statements aren't traced. */
  tracing?: Tracing | null;
};

/**
 * Opens the database of `DATABASE_URL`, or starts the embedded Postgres if that isn't set. Doesn't wait until the server is
 * available; see `waitForDatabase`.
 * @throws ConfigError if `DATABASE_URL` is malformed.
 * @throws DataDirectoryInUseError if another Parley uses `DATA_DIR` (not with `canJoin`).
 * @throws EmbeddedPostgresError if the embedded Postgres can't start.
 */
export async function connectDatabase(
  config: DatabaseConfig,
  log: Log,
  options: ConnectOptions = {},
): Promise<Connected> {
  const poolSize = config.DATABASE_POOL_SIZE;
  const { add } = createSlowStatements(log, config.DATABASE_SLOW_QUERY_MS ?? 0);
  const observer = { onStatement: add, onWait: options.onWait ?? (() => {}) };
  const commonOptions = { poolSize, observer, tracing: options.tracing };
  if (config.DATABASE_URL) return connect("server", { target: { url: config.DATABASE_URL }, ...commonOptions });
  const { stop, ...target } = await startOrJoin(config, log, options);
  return connect("embedded", { target, ...commonOptions }, stop);
}

async function startOrJoin(config: DatabaseConfig, log: Log, { canJoin = false }: ConnectOptions) {
  const dataDir = config.DATA_DIR;
  try {
    const poolSize = config.DATABASE_POOL_SIZE + EXTRA_CONNECTIONS_MAX;
    return await startEmbeddedPostgres({ dataDir, poolSize, log });
  } catch (error) {
    const running = canJoin && error instanceof DataDirectoryInUseError ? findRunningPostgres(dataDir) : null;
    if (running === null) throw error;
    return running;
  }
}

function connect(kind: Connected["kind"], options: DatabaseOptions, stop?: () => Promise<void>): Connected {
  const database = openDatabase(options);
  let closing: Promise<void> | undefined;
  const close = async () => {
    await database.end({ timeout: CLOSE_TIMEOUT_S });
    await stop?.();
  };
  return {
    database,
    kind,
    close() {
      closing ??= close();
      return closing;
    },
  };
}

/**
 * Waits until the database is ready, however long that takes, and then runs `work`. Starts over if the database fails during
 * `work`. Logs why each attempt failed.
 * @throws UnsuitableDatabaseError if waiting doesn't help; errors of `work` that aren't temporary; the signal's reason once it
 * is aborted.
 */
export async function waitForDatabase(
  database: Database,
  log: Log,
  signal: AbortSignal,
  work: () => Promise<unknown> = async () => {},
): Promise<void> {
  for (let delayMs = RETRY_DELAY_MIN_MS; ; delayMs = Math.min(delayMs * 2, RETRY_DELAY_MAX_MS)) {
    signal.throwIfAborted();
    let isExamined = false;
    try {
      await abortable(examine(database, log), signal);
      isExamined = true;
      await work();
      return;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof UnsuitableDatabaseError || (isExamined && !isTemporary(error))) throw error;
      const reason = await abortable(describe(error, database), signal);
      log.error({ reason, retry_in_ms: delayMs }, "the database is not responding; retrying");
    }
    await sleep(delayMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

async function examine(database: Database, log: Log): Promise<void> {
  await prepareSession(database, log);
  await checkServer(database);
  try {
    await checkWritable(database);
  } catch (error) {
    // New connections use settings of the role or the database that were changed meanwhile.
    if (error instanceof DatabaseNotReadyError) await endSessions(database);
    throw error;
  }
}

/** Describes an error for the log. The driver's errors contain host, port, user and database, but never the password. */
async function describe(error: unknown, database: Database): Promise<string> {
  if (!(error instanceof Error)) return String(error);
  const target = findDatabaseTarget(database);
  const hasAnswered = error instanceof DatabaseNotReadyError || error instanceof postgres.PostgresError;
  const missing =
    !hasAnswered && target && "url" in target ? await findMissingTls(readDatabaseAddress(target.url)) : null;
  if (missing) return missing;
  const code = "code" in error ? ` (${error.code})` : "";
  const reason = explainDatabaseError(error) ?? `${error.message}${code}`;
  const host = !hasAnswered && target && "url" in target ? readDatabaseAddress(target.url).host : undefined;
  return host === undefined ? reason : reason + explainLoopback(host);
}
