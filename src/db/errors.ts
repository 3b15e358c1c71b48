import postgres from "postgres";
import { Problem } from "../lib/problem.ts";

/** The retry delay for requests that failed because of the database. */
const DATABASE_RETRY_AFTER_MS = 2_000;

/**
 * SQLSTATEs that mean that the database is unavailable:
 * - The server is starting, stopping, restarting or has no free connection (57P01 to 57P03, 57P05, 53300).
 * - The connection failed (class 08). PgBouncer sends 08P01 if its server is unavailable.
 * - The server became a replica in a failover (25006).
 * - The transaction was idle for too long (25P03).
 */
const unavailableStates = new Set([
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
]);

/** The driver's own codes for a closed connection. */
const driverCodes = new Set(["CONNECTION_CLOSED", "CONNECTION_ENDED", "CONNECTION_DESTROYED", "CONNECT_TIMEOUT"]);

/** Socket error codes. They count only in database errors, because errors from files and providers' connections have the same codes. */
const socketCodes = new Set([
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

const markedErrors = new WeakSet<object>();

/** Marks a database error that has no query, because it happened while reserving a connection (pool.ts). */
export function markAsDatabaseError(error: unknown): void {
  if (error instanceof Error) markedErrors.add(error);
}

/** Returns whether an error comes from the database. The driver adds the query and its parameters to the error. */
const isDatabaseError = (error: Error): boolean =>
  markedErrors.has(error) || ("query" in error && "parameters" in error);

/**
 * Returns whether an error means that the database is unavailable, so that a retry may succeed later. Errors from files and other
 * connections don't count, even if they have the same codes.
 */
export function isDatabaseUnavailable(error: unknown): boolean {
  if (error instanceof postgres.PostgresError) return unavailableStates.has(error.code);
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string") return false;
  return driverCodes.has(error.code) || (socketCodes.has(error.code) && isDatabaseError(error));
}

let outOfSpaceAtMs = Number.NEGATIVE_INFINITY;

/** Returns when the server was last out of space, as `performance.now()`. The health check uses it. */
export const findLastOutOfSpaceMs = (): number => outOfSpaceAtMs;

/** Returns whether the server is out of disk space (53100) or memory (53200). Records the time. */
function isOutOfSpace(error: unknown): boolean {
  if (!(error instanceof postgres.PostgresError) || (error.code !== "53100" && error.code !== "53200")) return false;
  outOfSpaceAtMs = performance.now();
  return true;
}

/** Returns whether the server has failed, so that other statements would fail too. */
export const isServerFailure = (error: unknown): boolean => isDatabaseUnavailable(error) || isOutOfSpace(error);

/** Returns whether Postgres rejected a row because of this unique index or constraint. */
export function isUniqueViolation(error: unknown, constraint: string): boolean {
  return error instanceof postgres.PostgresError && error.code === "23505" && error.constraint_name === constraint;
}

/**
 * Returns whether a transaction was rolled back because of another transaction: a deadlock (40P01) or a serialization failure (40001).
 */
export function isCollision(error: unknown): boolean {
  return error instanceof postgres.PostgresError && (error.code === "40P01" || error.code === "40001");
}

/** Returns whether a lock timed out (55P03) or a transaction collided with another transaction. A retry may succeed. */
export function isLockConflict(error: unknown): boolean {
  return (error instanceof postgres.PostgresError && error.code === "55P03") || isCollision(error);
}

/** Returns whether Postgres cancelled a statement that ran too long (57014). */
export function isStatementTimeout(error: unknown): boolean {
  return error instanceof postgres.PostgresError && error.code === "57014";
}

/** Returns whether a pool rejected a statement because too many are waiting for a connection (patches/postgres/waits-bounded.patch). */
const isPoolFull = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "TOO_MANY_WAITING";

/** Returns the problem for a database error if a retry may succeed later, or undefined. */
export function findTemporaryProblem(error: unknown): Problem | undefined {
  const retryAfterMs = DATABASE_RETRY_AFTER_MS;
  if (isLockConflict(error))
    return new Problem("overloaded", "Another change has locked this resource. Try again.", { retryAfterMs });
  if (isPoolFull(error))
    return new Problem("overloaded", "Too many requests are waiting for the database. Try again.", { retryAfterMs });
  if (isStatementTimeout(error))
    return new Problem("unavailable", "The database took too long to respond. Try again.", { retryAfterMs });
  if (isDatabaseUnavailable(error))
    return new Problem("unavailable", "The database is unreachable. Try again later.", { retryAfterMs });
  if (isOutOfSpace(error))
    return new Problem("unavailable", "The database is out of space. Nothing was changed.", {
      retryAfterMs,
    });
  return undefined;
}
