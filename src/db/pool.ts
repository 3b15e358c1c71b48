import { join } from "node:path";
import postgres from "postgres";
import { createId } from "../lib/id.ts";
import type { Tracing } from "../lib/tracing/tracing.ts";
import { mapAddressToOptions, parseDatabaseAddress } from "./address.ts";
import { markAsDatabaseError } from "./errors.ts";
import { SESSION_PARAMETERS, type SessionParameters } from "./session.ts";
import { traceStatements } from "./trace-statements.ts";

/** A connection pool, or the connection of a running transaction: the first parameter of every query function. */
export type Sql = postgres.Sql<{ bigint: number }> | postgres.TransactionSql<{ bigint: number }>;
export type Database = postgres.Sql<{ bigint: number }> & {
  /** Added by patches/postgres/timing-statements.patch. Absent inside transactions. */
  countConnections?(): ConnectionCounts;
};

/** The number of a pool's connections in each state, and the number of statements that wait for a connection. */
export type ConnectionCounts = { idle: number; active: number; waiting: number };

/**
 * The driver calls this after each statement (patches/postgres/timing-statements.patch).
 * @param submittedAtMs when the statement was submitted, as `performance.now()`. Undefined inside a transaction, which already has a
 * connection.
 * @param startedAtMs when it was sent on a connection.
 */
export type StatementListener = (text: string, submittedAtMs: number | undefined, startedAtMs: number) => void;

/** Observes each completed statement, and how long it waited for a connection. Its methods are called often and must be cheap. */
type DatabaseObserver = { onStatement(text: string, durationMs: number): void; onWait(waitMs: number): void };

/**
 * The pooling mode of the pooler between Parley and Postgres. With `session`, each client has its own connection. With
 * `transaction`, each transaction may use a different connection.
 */
export type Pooling = "none" | "session" | "transaction";

type SocketTarget = { socketDirectory: string; user: string; database?: string };

export type DatabaseOptions = {
  /** A server's URL, or the embedded server's socket directory. */
  target: { url: string } | SocketTarget;
  poolSize: number;
  /** The time after which idle connections are closed. 0 means never. Default: `MAIN_IDLE_TIMEOUT_S`. */
  idleTimeoutS?: number;
  /** The maximum time to wait for running statements when closing a side pool. Default: 1. */
  closeTimeoutS?: number;
  /** Longer statements are cancelled. Default: `STATEMENT_TIMEOUT_MS`. */
  statementTimeoutMs?: number;
  /** Default: `CLIENT_TIMEOUTS`. */
  clientTimeouts?: ClientTimeouts;
  /** The startup parameters of sessions. Default: `SESSION_PARAMETERS`. */
  session?: SessionParameters;
  /** Called for each notification that a connection receives after `listen`. */
  onNotification?(channel: string, payload: string): void;
  /** Called when a connection has closed, for any reason. */
  onClosed?(): void;
  /** Default: `none`. */
  pooling?: Pooling;
  observer?: DatabaseObserver | undefined;
  /** If absent or null, statements aren't traced. */
  tracing?: Tracing | null | undefined;
};

/** Timeouts after which Postgres closes the connection of a client that is frozen or whose host is down. */
export type ClientTimeouts = {
  /** The maximum time between two statements of a transaction. */
  idleInTransactionMs: number;
  /** The maximum time during which the client doesn't read results. No other Postgres timeout covers that. */
  unreadResultMs: number;
};

/** A frozen instance's locks are released before other instances stop waiting for them (`LANE_TIMEOUT_MS`). */
export const CLIENT_TIMEOUTS: ClientTimeouts = { idleInTransactionMs: 8_000, unreadResultMs: 10_000 };
/** TCP keep-alive settings for both ends. A dead host is detected within 30 s. */
const KEEPALIVE_S = 10;
const KEEPALIVE_INTERVAL_S = 5;
const KEEPALIVE_COUNT = 4;
/**
 * The idle timeout of the main pool. It closes connections that were opened for a peak. Each of them needs a server process, and
 * all instances share `max_connections`. The most recently used connection receives the next query
 * (patches/postgres/speed-warmest-connection.patch), so surplus connections become idle. Connections that are reserved or in a
 * transaction aren't idle.
 */
const MAIN_IDLE_TIMEOUT_S = 300;
/** The maximum number of a pool's unpipelined statements that wait for a connection. Further statements are rejected. */
const WAITING_STATEMENTS_MAX = 2_000;
/** The isolation level of all transactions. Set explicitly, because behind a pooler, the role's or database's default would apply. */
export const ISOLATION = "isolation level read committed";
/** The maximum time that a statement waits for a lock. */
export const LOCK_TIMEOUT_MS = 2_000;
/** Postgres cancels longer statements, so that no request can use a connection forever. */
export const STATEMENT_TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_S = 10;
/**
 * The delay before a failed connection reconnects. The driver's default grows to 20 seconds, during which queries wait. With a short
 * delay, queries fail quickly, and succeed again as soon as the database is available.
 */
const RECONNECT_DELAY_S = 0.1;

/** Identifies this process's connections on the server. */
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
  clientTimeouts = CLIENT_TIMEOUTS,
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
    backoff: () => (0.5 + Math.random() / 2) * RECONNECT_DELAY_S,
    onnotice: () => {},
    connection: {
      application_name: APPLICATION_NAME,
      statement_timeout: statementTimeoutMs,
      lock_timeout: LOCK_TIMEOUT_MS,
      idle_in_transaction_session_timeout: clientTimeouts.idleInTransactionMs,
      tcp_keepalives_idle: KEEPALIVE_S,
      tcp_keepalives_interval: KEEPALIVE_INTERVAL_S,
      tcp_keepalives_count: KEEPALIVE_COUNT,
      tcp_user_timeout: clientTimeouts.unreadResultMs,
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
  const undeclaredOptions = {
    ...server,
    prepare: canPrepare(target, pooling),
    onstatement: observer && createStatementListener(observer),
    max_waiting: WAITING_STATEMENTS_MAX,
    ...(onNotification && { onnotify: onNotification }),
    ...(onClosed && { onclose: onClosed }),
  };
  const pool: Database = postgres({ ...options, ...undeclaredOptions } as typeof options);
  const begin: (options: string, work: (sql: postgres.TransactionSql) => unknown) => Promise<unknown> = pool.begin;
  // Sets the isolation level explicitly. Otherwise, the role's isolation level would apply behind a pooler.
  const beginIsolated = (...args: Parameters<typeof begin> | [Parameters<typeof begin>[1]]) =>
    args.length === 1 ? begin(ISOLATION, args[0]) : begin(...args);
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

const createStatementListener =
  (observer: DatabaseObserver): StatementListener =>
  (text, submittedAtMs, startedAtMs) => {
    if (submittedAtMs !== undefined) observer.onWait(startedAtMs - submittedAtMs);
    observer.onStatement(text, performance.now() - startedAtMs);
  };

/** Returns whether named prepared statements can be used. They exist only on the connection that prepared them. */
export function canPrepare(target: DatabaseOptions["target"], pooling: Pooling): boolean {
  const configured = "url" in target ? parseDatabaseAddress(target.url).canPrepare : undefined;
  return configured ?? pooling !== "transaction";
}

function mapTarget(target: DatabaseOptions["target"]) {
  if (!("url" in target)) return { server: mapToSocket(target), parameters: {} };
  const address = parseDatabaseAddress(target.url);
  return { server: mapAddressToOptions(address), parameters: address.session };
}

/** Sets every option explicitly, because the driver reads missing options from PGHOST, PGPORT and similar variables. */
const mapToSocket = ({ socketDirectory, user, database = "parley" }: SocketTarget) => ({
  path: join(socketDirectory, ".s.PGSQL.5432"),
  user,
  database,
  ssl: false,
});
