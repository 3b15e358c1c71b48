import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import type { Config } from "../config.ts";
import { abortable } from "../lib/abortable.ts";
import { explainLoopback } from "../lib/container.ts";
import type { Log } from "../lib/log.ts";
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

/** Longest wait for running queries when the pool closes. */
const CLOSE_TIMEOUT_S = 5;
/** Group commits of sends and of completed answers: one connection for the batches of each, and those of its lanes. */
const COMMIT_CONNECTIONS_MAX = 2 * (1 + LANES_WAITING_MAX);
/** Steps that count for analytics (src/modules/analytics): one for reads, one for the job. */
const COUNTING_CONNECTIONS_MAX = 2;
/** Imports have their own connections for writing (src/modules/imports/job.ts). */
const IMPORT_CONNECTIONS_MAX = 2;
/** LISTEN and NOTIFY between instances (src/realtime/bus-postgres.ts): with DATABASE_URL and without REDIS_URL. */
const BUS_CONNECTIONS_MAX = 2;
/** The most connections that an instance opens in addition to DATABASE_POOL_SIZE. Tested by test/db/connections.test.ts. */
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
  /** `embedded`: the Postgres bundled with Parley; `server`: the one in `DATABASE_URL`. */
  kind: "embedded" | "server";
  /** Ends the pool within 5 seconds, then the embedded Postgres if this process started it. Idempotent. */
  close(): Promise<void>;
};

type DatabaseConfig = Pick<Config, "DATABASE_URL" | "DATABASE_POOL_SIZE" | "DATA_DIR"> &
  Partial<Pick<Config, "DATABASE_SLOW_QUERY_MS">>;

export type ConnectOptions = {
  /** For short commands: use the embedded Postgres of a running Parley, if there is one. */
  canJoin?: boolean;
  /** Called with the time that each statement waited for a connection. */
  onWait?(waitMs: number): void;
};

/**
 * Opens the database in `DATABASE_URL`, or starts the embedded Postgres if it isn't set. Doesn't wait for an unavailable
 * server; see `waitForDatabase`.
 * @throws ConfigError when `DATABASE_URL` is malformed.
 * @throws DataDirectoryInUseError when another Parley uses `DATA_DIR` (not with `canJoin`).
 * @throws EmbeddedPostgresError when the embedded Postgres cannot start.
 */
export async function connectDatabase(
  config: DatabaseConfig,
  log: Log,
  options: ConnectOptions = {},
): Promise<Connected> {
  const poolSize = config.DATABASE_POOL_SIZE;
  const { add } = createSlowStatements(log, config.DATABASE_SLOW_QUERY_MS ?? 0);
  const observer = { onStatement: add, onWait: options.onWait ?? (() => {}) };
  if (config.DATABASE_URL) return connect("server", { target: { url: config.DATABASE_URL }, poolSize, observer });
  const { stop, ...target } = await startOrJoin(config, log, options);
  return connect("embedded", { target, poolSize, observer }, stop);
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
 * Waits until the database is ready, however long that takes, and runs `work` with it; repeats both if the database fails
 * during `work`. Logs the reason of each failed attempt.
 * @throws UnsuitableDatabaseError when waiting does not help; non-temporary errors of `work`; the signal's reason once it is
 * aborted.
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
    // New connections pick up settings of the role or the database changed since.
    if (error instanceof DatabaseNotReadyError) await endSessions(database);
    throw error;
  }
}

/** Describes an error. The driver's errors name host, port, user and database, never the password. */
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
