import { isLockConflict } from "./errors.ts";
import { type Database, LOCK_TIMEOUT_MS, type Sql } from "./pool.ts";
import { createPlaces, createTurns } from "./turns.ts";

/** How long the first try of a transaction waits for a lock: locks of healthy transactions are gone by then. */
const FIRST_LOCK_TIMEOUT_MS = 50;
/** Transactions at the same time: those of the first try, and those that wait for rows known to be locked. */
const FIRST_TRIES_MAX = 4;
const LOCKED_TRIES_MAX = 3;
/** Transactions of one key that may wait for each other. */
const TURNS_WAITING_MAX = 1_000;
/** Connections that transactions need. */
export const TRANSACTIONS_MAX = FIRST_TRIES_MAX + LOCKED_TRIES_MAX;

export interface Transactions {
  /** See `withTransaction` (client.ts). */
  run<T>(work: (sql: Sql) => Promise<T>, key: string | undefined): Promise<T>;
}

/**
 * The first try waits for locks so shortly that it delays nobody. Only then it is known that a row is locked, and the next
 * try waits for it on one of the connections for such rows: however many there are, they leave the others alone.
 */
export function createTransactions(pool: { open(): Database }): Transactions {
  const firstTries = createPlaces(FIRST_TRIES_MAX);
  const lockedTries = createPlaces(LOCKED_TRIES_MAX);
  const turns = createTurns(TURNS_WAITING_MAX);

  async function begin<T>(work: (sql: Sql) => Promise<T>, lockTimeoutMs: number): Promise<T> {
    const result = await pool.open().begin(async (sql) => {
      // Sent together with the first statement of the work.
      const limited = sql`select set_config('lock_timeout', ${`${lockTimeoutMs}ms`}, true)`.execute();
      const [result] = await Promise.all([work(sql), limited]);
      return result;
    });
    return result as T;
  }

  async function runTries<T>(work: (sql: Sql) => Promise<T>, wasLocked: boolean): Promise<T> {
    try {
      return await firstTries.run(() => begin(work, FIRST_LOCK_TIMEOUT_MS));
    } catch (error) {
      if (wasLocked || !isLockConflict(error)) throw error;
    }
    return lockedTries.run(() => begin(work, LOCK_TIMEOUT_MS));
  }

  return {
    run: (work, key) =>
      key === undefined
        ? runTries(work, false)
        : turns.run(key, (wasLocked) => runTries(work, wasLocked), isLockConflict),
  };
}
