import postgres from "postgres";
import { Problem } from "../lib/problem.ts";

/** When a request that failed because of the database may work again. */
const DATABASE_RETRY_AFTER_MS = 2_000;

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
