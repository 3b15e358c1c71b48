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

/** Lock timeout of a first attempt: healthy transactions release their locks sooner. */
const FIRST_LOCK_TIMEOUT_MS = 50;
/** Concurrent transactions: first attempts, and attempts that wait for rows known to be locked. */
const FIRST_ATTEMPTS_MAX = 4;
const LOCKED_ATTEMPTS_MAX = 3;
/** Transactions with the same key that may wait for each other. */
const KEY_WAITING_MAX = 1_000;
/** Transactions of all keys that may wait for a connection; above it they are refused. */
const TRANSACTIONS_WAITING_MAX = 2_000;
/** Connections that transactions need. */
export const TRANSACTIONS_MAX = FIRST_ATTEMPTS_MAX + LOCKED_ATTEMPTS_MAX;

export interface Transactions {
  /** See `withTransaction` (client.ts). */
  run<T>(work: (sql: Sql) => Promise<T>, key: string | undefined): Promise<T>;
  /** See `withStatement` (client.ts). */
  runStatement<T>(statement: Statement<T>, key: string | undefined): Promise<T>;
  /** Transactions waiting for a connection. */
  waiting(): number;
}

/** A statement that sets its own lock timeout. */
export type Statement<T> = (sql: Sql, lockTimeoutMs: number) => Promise<T>;

type Options = {
  getPooling(): Pooling;
  /** Called with the time spent waiting for a connection. */
  onWait?: ((waitMs: number) => void) | undefined;
};

/**
 * The first attempt waits only briefly for locks, so it delays no other work. If a row is locked, the next attempt waits for
 * it on one of a few connections reserved for that, so any number of locked rows leaves the others unaffected.
 */
export function createTransactions(pool: { open(): Database }, { getPooling, onWait }: Options): Transactions {
  const queueOptions = { waitingMax: TRANSACTIONS_WAITING_MAX, onWait };
  const firstAttempts = createSemaphore(FIRST_ATTEMPTS_MAX, queueOptions);
  const lockedAttempts = createSemaphore(LOCKED_ATTEMPTS_MAX, queueOptions);
  const keyedQueue = createKeyedQueue(KEY_WAITING_MAX);

  async function begin<T>(work: (sql: Sql) => Promise<T>, lockTimeoutMs: number): Promise<T> {
    const result = await pool.open().begin(ISOLATION, async (sql) => {
      // Pipelined with the first statement of the work.
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

/** A pooler does not pass on the timeouts of Parley's sessions, so the transaction sets them itself. */
const limit = (sql: Sql, lockTimeoutMs: number, pooling: Pooling) =>
  pooling === "none"
    ? sql`select set_config('lock_timeout', ${`${lockTimeoutMs}ms`}, true)`
    : sql`
        select set_config('lock_timeout', ${`${lockTimeoutMs}ms`}, true),
          set_config('statement_timeout', ${`${STATEMENT_TIMEOUT_MS}ms`}, true),
          set_config('idle_in_transaction_session_timeout', ${`${SILENCE.inTransactionMs}ms`}, true)`;
