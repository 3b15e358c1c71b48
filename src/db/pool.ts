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
  /** See patches/postgres/timing-statements.patch; absent inside transactions. */
  countConnections?(): ConnectionCounts;
};

/** Connections of a pool by state, and statements that wait for one. */
export type ConnectionCounts = { idle: number; active: number; waiting: number };

/**
 * Called by the driver after each statement (patches/postgres/timing-statements.patch).
 * @param askedAtMs when it was submitted, by `performance.now`; undefined inside a transaction, which has a connection.
 * @param startedAtMs when a connection took it.
 */
export type StatementListener = (text: string, askedAtMs: number | undefined, startedAtMs: number) => void;

/** Called for each completed statement, with its wait for a connection. Called often, so it must be cheap. */
type DatabaseObserver = { onStatement(text: string, durationMs: number): void; onWait(waitMs: number): void };

/**
 * The pooler between Parley and Postgres. `session`: each client gets its own connection; `transaction`: each transaction
 * gets any connection.
 */
export type Pooling = "none" | "session" | "transaction";

type SocketTarget = { socketDirectory: string; user: string; database?: string };

export type DatabaseOptions = {
  /** Connection string of a server, or the socket directory of the embedded one. */
  target: { url: string } | SocketTarget;
  poolSize: number;
  /** Closes connections idle for this many seconds; 0: never; absent: MAIN_IDLE_TIMEOUT_S. */
  idleTimeoutS?: number;
  /** For side pools: how long running statements may take when it is closed. Absent: 1. */
  closeTimeoutS?: number;
  /** Statements that run longer are cancelled; absent: STATEMENT_TIMEOUT_MS. */
  statementTimeoutMs?: number;
  /** Timeouts after which Postgres releases the locks of a silent client; absent: SILENCE. */
  silence?: Silence;
  /** Startup parameters of its sessions; absent: SESSION_PARAMETERS. */
  session?: SessionParameters;
  /** Called for each notification; a connection receives them after its `listen`. */
  onNotification?(channel: string, payload: string): void;
  /** Called when a connection has closed, for any reason. */
  onClosed?(): void;
  /** Absent: none. */
  pooling?: Pooling;
  observer?: DatabaseObserver | undefined;
  /** Absent or null: statements aren't traced. */
  tracing?: Tracing | null | undefined;
};

/** How long Postgres keeps the connection of a frozen client, or of one whose host is gone. */
export type Silence = {
  /** Inside a transaction, between two statements. */
  inTransactionMs: number;
  /** While the client reads nothing of its results, which no other timeout of Postgres covers. */
  inResultMs: number;
};

/**
 * Makes a frozen instance release its locks; inside a transaction before others give up waiting for them (LANE_TIMEOUT_MS).
 */
export const SILENCE: Silence = { inTransactionMs: 8_000, inResultMs: 10_000 };
/** Connections of a dead host are detected within 30 s, on both ends. */
const KEEPALIVE_S = 10;
const KEEPALIVE_INTERVAL_S = 5;
const KEEPALIVE_COUNT = 4;
/**
 * Idle timeout of the main pool. It returns connections opened for a peak: each costs the server a process, and instances
 * share its `max_connections`. The connection used last takes the next query
 * (patches/postgres/speed-warmest-connection.patch), so surplus ones become idle, and one stays warm. A connection in a
 * transaction or a reserved one is not idle, however long it is silent.
 */
const MAIN_IDLE_TIMEOUT_S = 300;
/** Statements of a pool that may wait for a connection, in addition to those already pipelined; above it they are refused. */
const WAITING_STATEMENTS_MAX = 2_000;
/** Isolation of all transactions. Set explicitly: behind a pooler, the default of the role or the database would apply. */
export const ISOLATION = "isolation level read committed";
/** How long a statement waits for a lock. */
export const LOCK_TIMEOUT_MS = 2_000;
/** Postgres cancels statements that run longer than this, so that no request can hold a connection forever. */
export const STATEMENT_TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_S = 10;
/**
 * Pause of a failed connection before it reconnects. The driver's own pause grows to 20 seconds, and its queries wait for
 * it; with this one they fail soon, and work again soon after the database does.
 */
const RECONNECT_PAUSE_S = 0.1;

/** Identifies the connections of this process, so that an instance can count its own. */
const APPLICATION_NAME = `parley ${createId().slice(-12)}`;

/**
 * Opens a pool; its connections are made when first needed. `bigint` columns are numbers (exact up to 2^53).
 * @throws ConfigError when the URL is invalid.
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
  // The driver's types lack these options.
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
  // Behind a pooler, the role's isolation would apply otherwise.
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

/** Whether statements can be prepared under a name, which only the connection that prepared it knows. */
export function canPrepare(target: DatabaseOptions["target"], pooling: Pooling): boolean {
  const wanted = "url" in target ? readDatabaseAddress(target.url).canPrepare : undefined;
  return wanted ?? pooling !== "transaction";
}

function mapTarget(target: DatabaseOptions["target"]) {
  if (!("url" in target)) return { server: mapToSocket(target), parameters: {} };
  const address = readDatabaseAddress(target.url);
  return { server: mapAddressToOptions(address), parameters: address.session };
}

/** Names everything explicitly, since the driver fills gaps from PGHOST, PGPORT and the like. */
const mapToSocket = ({ socketDirectory, user, database = "parley" }: SocketTarget) => ({
  path: join(socketDirectory, ".s.PGSQL.5432"),
  user,
  database,
  ssl: false,
});
