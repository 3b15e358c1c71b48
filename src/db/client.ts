import { join } from "node:path";
import postgres from "postgres";
import { createId } from "../lib/id.ts";
import { Problem } from "../lib/problem.ts";

/** A connection pool, or the connection of a running transaction: every query function takes one first. */
export type Sql = postgres.Sql<{ bigint: number }> | postgres.TransactionSql<{ bigint: number }>;
export type Database = postgres.Sql<{ bigint: number }>;

export type DatabaseOptions = {
  /** Connection string of a server, or the socket directory of the embedded one. */
  target: { url: string } | { socketDirectory: string; user: string; database?: string };
  poolSize: number;
  /** Closes connections that nobody has used for so long, in seconds; absent: they stay. */
  idleTimeoutS?: number;
};

/**
 * A transaction whose client is silent for so long is ended by Postgres, so that a frozen instance gives back its locks.
 * It is shorter than what waits for them (LANE_TIMEOUT_MS).
 */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 8_000;
/** Connections of a dead host are noticed within 30 s, on both ends. */
const KEEPALIVE_S = 10;
const KEEPALIVE_INTERVAL_S = 5;
const KEEPALIVE_COUNT = 4;
/** How long connections of a further pool stay open unused. */
const SIDE_IDLE_TIMEOUT_S = 30;

/** How each pool was opened. */
const origins = new WeakMap<Database, DatabaseOptions>();

/** A statement that runs longer than this is cancelled by Postgres, so that no request can hold a connection. */
const STATEMENT_TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_S = 10;
/**
 * Pause of a connection that failed before it tries again. The driver's own grows to 20 seconds, and its queries wait
 * for it; with this one they fail soon, and work again soon after the database does.
 */
const RECONNECT_PAUSE_S = 0.1;

/** When a request that failed because of the database may work again. */
const DATABASE_RETRY_AFTER_MS = 2_000;

/** The same for all connections of this process, and another one in each: so an instance can count its own. */
const APPLICATION_NAME = `parley ${createId().slice(-12)}`;

/** Opens the pool; connections are made when first needed. `bigint` columns are numbers (exact up to 2^53). */
export function openDatabase(opened: DatabaseOptions): Database {
  const database = openPool(opened);
  origins.set(database, opened);
  return database;
}

/**
 * A further, small pool on the same database, for work that may wait for locks: it takes no connection that others need.
 * It is opened at its first use, and its connections are closed when nobody uses them.
 */
export function createSidePool(database: Database, poolSize: number) {
  let pool: Database | undefined;
  return {
    open(): Database {
      const origin = origins.get(database);
      if (!origin) throw new Error("The pool was not opened by openDatabase.");
      pool ??= openDatabase({ ...origin, poolSize, idleTimeoutS: SIDE_IDLE_TIMEOUT_S });
      return pool;
    },

    /** Ends it, after what is running; at most a second later. */
    async close(): Promise<void> {
      await pool?.end({ timeout: 1 });
    },
  };
}

function openPool({ target, poolSize, idleTimeoutS = 0 }: DatabaseOptions): Database {
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
      statement_timeout: STATEMENT_TIMEOUT_MS,
      idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
      tcp_keepalives_idle: KEEPALIVE_S,
      tcp_keepalives_interval: KEEPALIVE_INTERVAL_S,
      tcp_keepalives_count: KEEPALIVE_COUNT,
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
  if ("url" in target) return postgres(target.url, options);
  // Named in full, since the driver fills gaps from PGHOST, PGPORT and the like.
  return postgres({
    ...options,
    path: join(target.socketDirectory, ".s.PGSQL.5432"),
    user: target.user,
    database: target.database ?? "parley",
    ssl: false,
  });
}

/** Runs `work` in one transaction: all of it is committed when the promise fulfils, nothing when it rejects. */
export async function withTransaction<T>(database: Database, work: (sql: Sql) => Promise<T>): Promise<T> {
  return (await database.begin(work)) as T;
}

// Seen from a Postgres that ends, is killed, restarts or is not there: 57P01 to 57P03, CONNECTION_*, CONNECT_TIMEOUT,
// ECONNRESET, EPIPE, ECONNREFUSED, ENOENT (no socket), ENOTFOUND. The others are their kin: class 08 of PostgreSQL's
// appendix A (08P01 is what PgBouncer says when its server is away), 53300 (too many connections), 25006 (a replica
// after failover), 25P03 (the transaction was idle for too long), EAGAIN (a Unix socket whose queue is full).
const awayCodes = new Set([
  "08000",
  "08001",
  "08003",
  "08004",
  "08006",
  "08P01",
  "57P01",
  "57P02",
  "57P03",
  "57P05",
  "53300",
  "25006",
  "25P03",
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
  "CONNECT_TIMEOUT",
  "EAGAIN",
  "EAI_AGAIN",
  "ECONNABORTED",
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOENT",
  "ENOTFOUND",
  "EPIPE",
  "ETIMEDOUT",
]);

/** Whether a thrown error means that the database cannot be reached now, so that the same request may work later. */
export function isDatabaseAway(error: unknown): boolean {
  return error instanceof Error && "code" in error && typeof error.code === "string" && awayCodes.has(error.code);
}

/** Whether Postgres refused a row because of this unique index or constraint. */
export function isUniqueViolation(error: unknown, constraint: string): boolean {
  return error instanceof postgres.PostgresError && error.code === "23505" && error.constraint_name === constraint;
}

/** Whether a lock could not be had in time (55P03), or only by a deadlock (40P01): the same may work later. */
export function isLockConflict(error: unknown): boolean {
  return error instanceof postgres.PostgresError && (error.code === "55P03" || error.code === "40P01");
}

/** Whether Postgres has cancelled a statement that ran too long (57014). */
export function isStatementTimeout(error: unknown): boolean {
  return error instanceof postgres.PostgresError && error.code === "57014";
}

/** The problem that an error of the database stands for, if the same request may work later; otherwise undefined. */
export function findTemporaryProblem(error: unknown): Problem | undefined {
  const retryAfterMs = DATABASE_RETRY_AFTER_MS;
  if (isLockConflict(error))
    return new Problem("overloaded", "What is to be changed is locked by another change. Try again.", { retryAfterMs });
  if (isStatementTimeout(error))
    return new Problem("unavailable", "The database took too long to respond. Try again.", { retryAfterMs });
  if (isDatabaseAway(error))
    return new Problem("unavailable", "The database cannot be reached at the moment.", { retryAfterMs });
  return undefined;
}

/** The row, or `not_found`: look-ups are how access is checked, so a row that one may not see is not there. */
export function requireRow<T>(row: T | undefined, what: string): T {
  if (row === undefined) throw new Problem("not_found", `There is no such ${what}.`);
  return row;
}
