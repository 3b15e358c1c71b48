import { isLockConflict } from "./errors.ts";
import {
  CLIENT_TIMEOUTS,
  type Database,
  ISOLATION,
  LOCK_TIMEOUT_MS,
  type Pooling,
  type Sql,
  STATEMENT_TIMEOUT_MS,
} from "./pool.ts";
import { retryCollisions } from "./retry-collisions.ts";
import { createKeyedQueue, createSemaphore } from "./semaphore.ts";

/** The lock timeout of a first attempt. Most transactions release their locks sooner. */
const FIRST_LOCK_TIMEOUT_MS = 50;
/** The maximum number of concurrent first attempts of transactions, which wait only briefly for locked rows. */
const FIRST_ATTEMPTS_MAX = 4;
/** The maximum number of concurrent second attempts of transactions, which wait longer for locked rows. */
const LOCKED_ATTEMPTS_MAX = 3;
/** The maximum number of queued transactions per key. */
const KEY_WAITING_MAX = 1_000;
/** The maximum number of transactions that wait for a connection. Further transactions are rejected. */
const TRANSACTIONS_WAITING_MAX = 2_000;
/** The number of connections that transactions need. */
export const TRANSACTIONS_MAX = FIRST_ATTEMPTS_MAX + LOCKED_ATTEMPTS_MAX;

export interface Transactions {
  /** See `withTransaction` (client.ts). */
  run<T>(work: (sql: Sql) => Promise<T>, key: string | undefined): Promise<T>;
  /** See `withStatement` (client.ts). */
  runStatement<T>(statement: Statement<T>, key: string | undefined): Promise<T>;
  /** Returns the number of transactions that wait for a connection. */
  countWaiting(): number;
}

/** A statement that sets its own lock timeout. */
export type Statement<T> = (sql: Sql, lockTimeoutMs: number) => Promise<T>;

type Options = {
  getPooling(): Pooling;
  /** Called with the time that was spent waiting for a connection. */
  onWait?: ((waitMs: number) => void) | undefined;
};

/**
 * Creates the queue of transactions. A first attempt waits only briefly for locks. If a row stays locked, the next attempt waits
 * for it on one of a few connections that are reserved for such attempts. Therefore, locked rows don't delay other transactions.
 */
export function createTransactions(pool: { open(): Database }, { getPooling, onWait }: Options): Transactions {
  const queueOptions = { waitingMax: TRANSACTIONS_WAITING_MAX, onWait };
  const firstAttempts = createSemaphore(FIRST_ATTEMPTS_MAX, queueOptions);
  const lockedAttempts = createSemaphore(LOCKED_ATTEMPTS_MAX, queueOptions);
  const keyedQueue = createKeyedQueue(KEY_WAITING_MAX);

  async function runTransaction<T>(work: (sql: Sql) => Promise<T>, lockTimeoutMs: number): Promise<T> {
    const result = await pool.open().begin(ISOLATION, async (sql) => {
      // Not awaited first, so that it is pipelined with the first statement of `work`.
      const timeoutStatement = setTimeouts(sql, lockTimeoutMs, getPooling()).execute();
      const [workResult] = await Promise.all([work(sql), timeoutStatement]);
      return workResult;
    });
    return result as T;
  }

  async function runAttempts<T>(runAttempt: (lockTimeoutMs: number) => Promise<T>, wasLocked: boolean): Promise<T> {
    try {
      return await firstAttempts.run(() => retryCollisions(() => runAttempt(FIRST_LOCK_TIMEOUT_MS)));
    } catch (error) {
      if (wasLocked || !isLockConflict(error)) throw error;
    }
    return lockedAttempts.run(() => retryCollisions(() => runAttempt(LOCK_TIMEOUT_MS)));
  }

  function runInOrder<T>(runAttempt: (lockTimeoutMs: number) => Promise<T>, key: string | undefined): Promise<T> {
    if (key === undefined) return runAttempts(runAttempt, false);
    return keyedQueue.run(key, (wasLocked) => runAttempts(runAttempt, wasLocked), isLockConflict);
  }

  return {
    run: (work, key) => runInOrder((lockTimeoutMs) => runTransaction(work, lockTimeoutMs), key),
    runStatement: (statement, key) => runInOrder((lockTimeoutMs) => statement(pool.open(), lockTimeoutMs), key),
    countWaiting: () => firstAttempts.countWaiting() + lockedAttempts.countWaiting(),
  };
}

/** Sets a transaction's lock timeout. Behind a pooler, sets the other timeouts too, because the pooler doesn't pass on Parley's. */
const setTimeouts = (sql: Sql, lockTimeoutMs: number, pooling: Pooling) =>
  pooling === "none"
    ? sql`select set_config('lock_timeout', ${`${lockTimeoutMs}ms`}, true)`
    : sql`
        select set_config('lock_timeout', ${`${lockTimeoutMs}ms`}, true),
          set_config('statement_timeout', ${`${STATEMENT_TIMEOUT_MS}ms`}, true),
          set_config('idle_in_transaction_session_timeout', ${`${CLIENT_TIMEOUTS.idleInTransactionMs}ms`}, true)`;
