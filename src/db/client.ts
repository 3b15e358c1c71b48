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
};

/** A statement that runs longer than this is cancelled by Postgres, so that no request can hold a connection. */
const STATEMENT_TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_S = 10;
/**
 * Pause of a connection that failed before it tries again. The driver's own grows to 20 seconds, and its queries wait
 * for it; with this one they fail soon, and work again soon after the database does.
 */
const RECONNECT_PAUSE_S = 0.1;

/** The same for all connections of this process, and another one in each: so an instance can count its own. */
const APPLICATION_NAME = `parley ${createId().slice(-12)}`;

/** Opens the pool; connections are made when first needed. `bigint` columns are numbers (exact up to 2^53). */
export function openDatabase({ target, poolSize }: DatabaseOptions): Database {
  const options: postgres.Options<{ bigint: postgres.PostgresType<number> }> = {
    max: poolSize,
    connect_timeout: CONNECT_TIMEOUT_S,
    idle_timeout: 0,
    max_lifetime: null,
    backoff: () => (0.5 + Math.random() / 2) * RECONNECT_PAUSE_S,
    onnotice: () => {},
    connection: { application_name: APPLICATION_NAME, statement_timeout: STATEMENT_TIMEOUT_MS },
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
// after failover), EAGAIN (a Unix socket whose queue is full).
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

/**
 * Whether a single row of a statement may have been at fault: its data (class 22), a constraint (23), or a deadlock (40).
 * Anything else, a timeout above all, would befall each row alone just the same.
 */
export function isRowFault(error: unknown): boolean {
  return error instanceof postgres.PostgresError && /^(?:22|23|40)/.test(error.code);
}

/** The row, or `not_found`: look-ups are how access is checked, so a row that one may not see is not there. */
export function requireRow<T>(row: T | undefined, what: string): T {
  if (row === undefined) throw new Problem("not_found", `There is no such ${what}.`);
  return row;
}
