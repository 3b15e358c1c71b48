import { isLockConflict } from "./errors.ts";
import {
  type Database,
  ISOLATION,
  LOCK_TIMEOUT_MS,
  type Pooling,
  SILENCE,
  type Sql,
  STATEMENT_TIMEOUT_MS,
} from "./pool.ts";
import { retryCollisions } from "./retry-collisions.ts";
import { createKeyedQueue, createSemaphore } from "./semaphore.ts";

/** The lock timeout of a first attempt. Healthy transactions release their locks sooner than this. */
const FIRST_LOCK_TIMEOUT_MS = 50;
/** Limits on concurrent transactions: first attempts, and later attempts, which wait for locked rows. */
const FIRST_ATTEMPTS_MAX = 4;
const LOCKED_ATTEMPTS_MAX = 3;
/** The maximum number of queued transactions per key. */
const KEY_WAITING_MAX = 1_000;
/** The maximum number of transactions that wait for a connection. More are refused. */
const TRANSACTIONS_WAITING_MAX = 2_000;
/** The number of connections that transactions need. */
export const TRANSACTIONS_MAX = FIRST_ATTEMPTS_MAX + LOCKED_ATTEMPTS_MAX;

export interface Transactions {
  /** See `withTransaction` (client.ts). */
  run<T>(work: (sql: Sql) => Promise<T>, key: string | undefined): Promise<T>;
  /** See `withStatement` (client.ts). */
  runStatement<T>(statement: Statement<T>, key: string | undefined): Promise<T>;
  /** Returns the number of transactions that wait for a connection. */
  waiting(): number;
}

/** A statement that sets its own lock timeout. */
export type Statement<T> = (sql: Sql, lockTimeoutMs: number) => Promise<T>;

type Options = {
  getPooling(): Pooling;
  /** Called with the time that was spent waiting for a connection. */
  onWait?: ((waitMs: number) => void) | undefined;
};

/**
 * Creates the queue of transactions. A first attempt waits only briefly for locks, so that it doesn't delay other work. If a
 * row is locked, the next attempt waits for it on one of a few connections reserved for that. So even many locked rows don't
 * affect other transactions.
 */
export function createTransactions(pool: { open(): Database }, { getPooling, onWait }: Options): Transactions {
  const queueOptions = { waitingMax: TRANSACTIONS_WAITING_MAX, onWait };
  const firstAttempts = createSemaphore(FIRST_ATTEMPTS_MAX, queueOptions);
  const lockedAttempts = createSemaphore(LOCKED_ATTEMPTS_MAX, queueOptions);
  const keyedQueue = createKeyedQueue(KEY_WAITING_MAX);

  async function begin<T>(work: (sql: Sql) => Promise<T>, lockTimeoutMs: number): Promise<T> {
    const result = await pool.open().begin(ISOLATION, async (sql) => {
      // Pipelined with the first statement of `work`.
      const limited = limit(sql, lockTimeoutMs, getPooling()).execute();
      const [result] = await Promise.all([work(sql), limited]);
      return result;
    });
    return result as T;
  }

  async function runAttempts<T>(begin: (lockTimeoutMs: number) => Promise<T>, wasLocked: boolean): Promise<T> {
    try {
      return await firstAttempts.run(() => retryCollisions(() => begin(FIRST_LOCK_TIMEOUT_MS)));
    } catch (error) {
      if (wasLocked || !isLockConflict(error)) throw error;
    }
    return lockedAttempts.run(() => retryCollisions(() => begin(LOCK_TIMEOUT_MS)));
  }

  function runInOrder<T>(begin: (lockTimeoutMs: number) => Promise<T>, key: string | undefined): Promise<T> {
    if (key === undefined) return runAttempts(begin, false);
    return keyedQueue.run(key, (wasLocked) => runAttempts(begin, wasLocked), isLockConflict);
  }

  return {
    run: (work, key) => runInOrder((lockTimeoutMs) => begin(work, lockTimeoutMs), key),
    runStatement: (statement, key) => runInOrder((lockTimeoutMs) => statement(pool.open(), lockTimeoutMs), key),
    waiting: () => firstAttempts.waiting() + lockedAttempts.waiting(),
  };
}

/** Sets the timeouts of a transaction. Behind a pooler, all of them, because it doesn't pass on those of Parley's sessions. */
const limit = (sql: Sql, lockTimeoutMs: number, pooling: Pooling) =>
  pooling === "none"
    ? sql`select set_config('lock_timeout', ${`${lockTimeoutMs}ms`}, true)`
    : sql`
        select set_config('lock_timeout', ${`${lockTimeoutMs}ms`}, true),
          set_config('statement_timeout', ${`${STATEMENT_TIMEOUT_MS}ms`}, true),
          set_config('idle_in_transaction_session_timeout', ${`${SILENCE.inTransactionMs}ms`}, true)`;
