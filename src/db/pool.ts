import { join } from "node:path";
import postgres from "postgres";
import { createId } from "../lib/id.ts";
import type { Tracing } from "../lib/tracing/tracing.ts";
import { mapAddressToOptions, readDatabaseAddress } from "./address.ts";
import { markAsDatabaseError } from "./errors.ts";
import { SESSION_PARAMETERS, type SessionParameters } from "./session.ts";
import { traceStatements } from "./trace-statements.ts";

/** A connection pool, or the connection of a running transaction: the first parameter of every query function. */
export type Sql = postgres.Sql<{ bigint: number }> | postgres.TransactionSql<{ bigint: number }>;
export type Database = postgres.Sql<{ bigint: number }> & {
  /** Added by patches/postgres/timing-statements.patch; absent inside transactions. */
  countConnections?(): ConnectionCounts;
};

/** The number of a pool's connections by state, and of statements that wait for one. */
export type ConnectionCounts = { idle: number; active: number; waiting: number };

/**
 * The driver calls this after each statement (patches/postgres/timing-statements.patch).
 * @param askedAtMs when the statement was submitted, as `performance.now()`; undefined inside a transaction, which already has a
 * connection.
 * @param startedAtMs when it was sent on a connection.
 */
export type StatementListener = (text: string, askedAtMs: number | undefined, startedAtMs: number) => void;

/** Observes each completed statement, and how long it waited for a connection. Called often, so it must be cheap. */
type DatabaseObserver = { onStatement(text: string, durationMs: number): void; onWait(waitMs: number): void };

/**
 * The pooler between Parley and Postgres. `session`: each client gets its own connection; `transaction`: each transaction
 * may get a different connection.
 */
export type Pooling = "none" | "session" | "transaction";

type SocketTarget = { socketDirectory: string; user: string; database?: string };

export type DatabaseOptions = {
  /** The URL of a server, or the socket directory of the embedded one. */
  target: { url: string } | SocketTarget;
  poolSize: number;
  /** Idle connections are closed after this many seconds; 0: never; absent: MAIN_IDLE_TIMEOUT_S. */
  idleTimeoutS?: number;
  /** How long closing a side pool waits for running statements, in seconds. Absent: 1. */
  closeTimeoutS?: number;
  /** Statements that run longer are cancelled; absent: STATEMENT_TIMEOUT_MS. */
  statementTimeoutMs?: number;
  /** Timeouts after which Postgres releases the locks of a silent client; absent: SILENCE. */
  silence?: Silence;
  /** The startup parameters of sessions; absent: SESSION_PARAMETERS. */
  session?: SessionParameters;
  /** Called for each notification that a connection receives after `listen`. */
  onNotification?(channel: string, payload: string): void;
  /** Called when a connection has closed, for any reason. */
  onClosed?(): void;
  /** The pooler in front of the database; absent: `none`. */
  pooling?: Pooling;
  observer?: DatabaseObserver | undefined;
  /** Absent or null: statements aren't traced. */
  tracing?: Tracing | null | undefined;
};

/** How long Postgres keeps the connection of a client that is frozen or whose host is down. */
export type Silence = {
  /** Between two statements of a transaction. */
  inTransactionMs: number;
  /** While the client doesn't read its results, which no other timeout of Postgres covers. */
  inResultMs: number;
};

/**
 * Makes a frozen instance release its locks. Inside a transaction, this happens before others stop waiting for them
 * (LANE_TIMEOUT_MS).
 */
export const SILENCE: Silence = { inTransactionMs: 8_000, inResultMs: 10_000 };
/** TCP keep-alive settings for both ends. A dead host is detected within 30 s. */
const KEEPALIVE_S = 10;
const KEEPALIVE_INTERVAL_S = 5;
const KEEPALIVE_COUNT = 4;
/**
 * The idle timeout of the main pool. It closes connections that were opened for a peak, because each needs a process in the
 * server, and all instances share its `max_connections`. The most recently used connection gets the next query
 * (patches/postgres/speed-warmest-connection.patch), so one stays warm and surplus ones become idle. Connections that are
 * reserved or in a transaction don't count as idle.
 */
const MAIN_IDLE_TIMEOUT_S = 300;
/** The maximum number of a pool's statements that wait for a connection, besides those already pipelined. More are refused. */
const WAITING_STATEMENTS_MAX = 2_000;
/** The isolation of all transactions. It is set explicitly, because behind a pooler the default of the role or database applies. */
export const ISOLATION = "isolation level read committed";
/** How long a statement waits for a lock. */
export const LOCK_TIMEOUT_MS = 2_000;
/** Postgres cancels statements that run longer than this, so that no request can use a connection forever. */
export const STATEMENT_TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_S = 10;
/**
 * The pause before a failed connection reconnects. The driver's default grows to 20 seconds, during which queries wait. With
 * this one, queries fail quickly, and work again soon after the database does.
 */
const RECONNECT_PAUSE_S = 0.1;

/** Identifies this process's connections in the server. */
const APPLICATION_NAME = `parley ${createId().slice(-12)}`;

/**
 * Opens a pool. Connections are opened on demand. `bigint` columns are returned as numbers, which are exact up to 2^53.
 * @throws ConfigError if the URL is invalid.
 */
export function openPool({
  target,
  poolSize,
  idleTimeoutS = MAIN_IDLE_TIMEOUT_S,
  statementTimeoutMs = STATEMENT_TIMEOUT_MS,
  silence = SILENCE,
  session = SESSION_PARAMETERS,
  onNotification,
  onClosed,
  pooling = "none",
  observer,
  tracing,
}: DatabaseOptions): Database {
  const { server, parameters } = mapTarget(target);
  const options: postgres.Options<{ bigint: postgres.PostgresType<number> }> = {
    max: poolSize,
    connect_timeout: CONNECT_TIMEOUT_S,
    idle_timeout: idleTimeoutS,
    keep_alive: KEEPALIVE_S,
    max_lifetime: null,
    backoff: () => (0.5 + Math.random() / 2) * RECONNECT_PAUSE_S,
    onnotice: () => {},
    connection: {
      application_name: APPLICATION_NAME,
      statement_timeout: statementTimeoutMs,
      lock_timeout: LOCK_TIMEOUT_MS,
      idle_in_transaction_session_timeout: silence.inTransactionMs,
      tcp_keepalives_idle: KEEPALIVE_S,
      tcp_keepalives_interval: KEEPALIVE_INTERVAL_S,
      tcp_keepalives_count: KEEPALIVE_COUNT,
      tcp_user_timeout: silence.inResultMs,
      ...session,
      ...parameters,
    },
    types: {
      bigint: {
        to: 20,
        from: [20],
        parse: (text: string) => Number(text),
        serialize: (value: number) => String(value),
      },
    },
  };
  // The driver's types don't declare these options.
  const further = {
    ...server,
    prepare: canPrepare(target, pooling),
    onstatement: observer && createListener(observer),
    max_waiting: WAITING_STATEMENTS_MAX,
    ...(onNotification && { onnotify: onNotification }),
    ...(onClosed && { onclose: onClosed }),
  };
  const pool: Database = postgres({ ...options, ...further } as typeof options);
  const begin: (options: string, work: (sql: postgres.TransactionSql) => unknown) => Promise<unknown> = pool.begin;
  // Otherwise, the role's isolation would apply behind a pooler.
  const beginIsolated = (...given: Parameters<typeof begin> | [Parameters<typeof begin>[1]]) =>
    given.length === 1 ? begin(ISOLATION, given[0]) : begin(...given);
  pool.begin = beginIsolated as typeof pool.begin;
  const reserve = pool.reserve;
  pool.reserve = async () => {
    try {
      return await reserve();
    } catch (error) {
      markAsDatabaseError(error);
      throw error;
    }
  };
  return tracing ? traceStatements(pool, tracing) : pool;
}

const createListener =
  (observer: DatabaseObserver): StatementListener =>
  (text, askedAtMs, startedAtMs) => {
    if (askedAtMs !== undefined) observer.onWait(startedAtMs - askedAtMs);
    observer.onStatement(text, performance.now() - startedAtMs);
  };

/** Whether named prepared statements can be used. They are known only to the connection that prepared them. */
export function canPrepare(target: DatabaseOptions["target"], pooling: Pooling): boolean {
  const wanted = "url" in target ? readDatabaseAddress(target.url).canPrepare : undefined;
  return wanted ?? pooling !== "transaction";
}

function mapTarget(target: DatabaseOptions["target"]) {
  if (!("url" in target)) return { server: mapToSocket(target), parameters: {} };
  const address = readDatabaseAddress(target.url);
  return { server: mapAddressToOptions(address), parameters: address.session };
}

/** Sets every option explicitly, because the driver takes missing ones from PGHOST, PGPORT and similar variables. */
const mapToSocket = ({ socketDirectory, user, database = "parley" }: SocketTarget) => ({
  path: join(socketDirectory, ".s.PGSQL.5432"),
  user,
  database,
  ssl: false,
});
