import type { Database, Sql } from "./client.ts";
import { ISOLATION } from "./pool.ts";

/** The id of the advisory lock for migrations. It is arbitrary, but the same on every instance. */
export const MIGRATION_LOCK = 7_275_539;
const POLL_INTERVAL_MS = 100;
/**
 * The maximum time that a schema change waits for a table lock. All later queries on that table wait behind it, so this is half of
 * their lock timeout (pool.ts).
 */
const TABLE_LOCK_TIMEOUT_MS = 1_000;

/**
 * Runs `work` in a transaction that holds the migration lock. The lock belongs to the transaction, so it works behind PgBouncer.
 * The isolation level is `read committed`, so that `work` sees the previous holder's changes. The lock is polled, because a session
 * that waits for a lock holds a snapshot, and `create index concurrently` on another instance would wait for that snapshot.
 * @throws the signal's reason if it is aborted while another instance holds the lock.
 */
export async function withMigrationLock<T>(
  database: Database,
  work: (sql: Sql) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  for (;;) {
    signal?.throwIfAborted();
    const result = await database.begin(ISOLATION, async (sql) => {
      const [row] = await sql<
        { is_locked: boolean }[]
      >`select pg_try_advisory_xact_lock(${MIGRATION_LOCK}) as is_locked`;
      if (!row?.is_locked) return null;
      // A migration may take longer than the usual timeouts.
      await sql`set local idle_in_transaction_session_timeout = 0`;
      await sql`set local statement_timeout = 0`;
      await sql`select set_config('lock_timeout', ${`${TABLE_LOCK_TIMEOUT_MS}ms`}, true)`;
      return { value: await work(sql) };
    });
    if (result) return result.value;
    await Bun.sleep(POLL_INTERVAL_MS * (1 + Math.random()));
  }
}
