import { Problem } from "../lib/problem.ts";
import { createSidePool, type Database, type Sql, withTransaction } from "./client.ts";

/** Connections of changes: so many rows can be waited for at the same time. */
const CHANGES_POOL_SIZE = 4;
/** How long a change waits for a row that somebody else has locked. */
const LOCK_TIMEOUT_MS = 2_000;
/** Changes of one row that may wait for each other, and for how long. */
export const CHANGES_WAITING_MAX = 100;
export const CHANGES_TIMEOUT_MS = 10_000;
const RETRY_AFTER_MS = 1_000;

/**
 * Transactions that may have to wait for a row: changes of conversations, members, messages. They have connections of
 * their own, so that sends, reads and health checks never wait for them. Changes of the same row wait for each other in
 * this process, before they take a connection.
 */
export function createChanges(database: Database) {
  const pool = createSidePool(database, CHANGES_POOL_SIZE);
  /** By key, the changes that wait for the one that is running. */
  const waiting = new Map<string, Turn[]>();

  function takeTurn(key: string): Promise<void> {
    const turns = waiting.get(key);
    if (!turns) {
      waiting.set(key, []);
      return Promise.resolve();
    }
    if (turns.length >= CHANGES_WAITING_MAX) throw createOverloaded();
    return new Promise((resolve, reject) => {
      const turn: Turn = {
        begin() {
          clearTimeout(timer);
          resolve();
        },
      };
      const timer = setTimeout(() => {
        turns.splice(turns.indexOf(turn), 1);
        reject(createOverloaded());
      }, CHANGES_TIMEOUT_MS);
      turns.push(turn);
    });
  }

  function endTurn(key: string): void {
    const next = waiting.get(key)?.shift();
    if (next) next.begin();
    else waiting.delete(key);
  }

  return {
    /**
     * Runs `work` in one transaction, after the earlier changes of the same `key` (a conversation).
     * @throws Problem `overloaded` when too many wait; a lock timeout of the database; whatever `work` throws.
     */
    async run<T>(key: string, work: (sql: Sql) => Promise<T>): Promise<T> {
      await takeTurn(key);
      try {
        return await withTransaction(pool.open(), async (sql) => {
          // Sent together with the first statement of the work.
          const limited = sql`select set_config('lock_timeout', ${`${LOCK_TIMEOUT_MS}ms`}, true)`.execute();
          const [result] = await Promise.all([work(sql), limited]);
          return result;
        });
      } finally {
        endTurn(key);
      }
    },

    close: pool.close,
  };
}

type Turn = { begin(): void };

export type Changes = ReturnType<typeof createChanges>;

const createOverloaded = (): Problem =>
  new Problem("overloaded", "Too many changes of the same conversation are waiting. Try again.", {
    retryAfterMs: RETRY_AFTER_MS,
  });
