import { createSidePool, type Database, isLockConflict, type Sql } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import * as queries from "./queries.ts";

/** The number of messages that the job counts per step. */
const STEP_ROWS = 10_000;
/** The number of messages that a request for figures counts per step. */
const READ_STEP_ROWS = 5_000;
/** The maximum time that a request for figures spends on counting new messages. */
const READ_TIMEOUT_MS = 200;
/** If recounting the newest messages takes at most this long, every request for figures recounts them. */
const FAST_STEP_MS_MAX = 100;
/**
 * If recounting takes longer, the pause between two counts is this many times the duration of a count. Counting then takes at most 10% of
 * the time.
 */
const PAUSE_FACTOR = 9;
/** If a request would have to wait longer, it returns the figures without counting. */
const PAUSE_WAIT_TIMEOUT_MS = 2_000;
/** The timeout of a step's statements. It is long, because a step may have to count many changed rows. */
const STATEMENT_TIMEOUT_MS = 120_000;
/** The maximum time that a request waits for a step of another instance or of the job. */
const READ_LOCK_TIMEOUT_MS = 1_000;
/** The maximum time that the job waits for a request's step. */
const JOB_LOCK_TIMEOUT_MS = 10_000;

type Dependencies = { database: Database; metrics: Metrics; log: Log };

/** Creates the refresher, which keeps the figures up to date in steps. Only one step runs at a time across all instances. */
export function createRefresher({ database, metrics, log }: Dependencies) {
  // Steps have a separate pool, because they wait for each other and may take a long time.
  const pool = createSidePool(database, 2, { statementTimeoutMs: STATEMENT_TIMEOUT_MS });
  let currentRun: Promise<void> = Promise.resolve();
  let nextRun: Promise<void> | null = null;

  async function runInTransaction<T>(work: (sql: Sql) => Promise<T>, lockTimeoutMs: number): Promise<T> {
    const stopTimer = metrics.analyticsRefreshDuration.startTimer();
    const result = await pool.open().begin(async (sql) => {
      // A pooler such as PgBouncer doesn't forward the pool's timeout setting.
      await sql`
        select set_config('lock_timeout', ${`${lockTimeoutMs}ms`}, true),
          set_config('statement_timeout', ${`${STATEMENT_TIMEOUT_MS}ms`}, true)`;
      return work(sql);
    });
    stopTimer();
    return result as T;
  }

  async function catchUp(): Promise<void> {
    const deadlineMs = performance.now() + READ_TIMEOUT_MS;
    const state = await queries.findCountingState(database);
    if (state && state.took_ms > FAST_STEP_MS_MAX) {
      const pauseMs = PAUSE_FACTOR * state.took_ms - state.age_ms;
      if (pauseMs > PAUSE_WAIT_TIMEOUT_MS) return;
      await Bun.sleep(Math.max(0, pauseMs));
    }
    for (let hasMore = true; hasMore && performance.now() < deadlineMs; )
      hasMore = await runInTransaction((sql) => queries.countBatch(sql, READ_STEP_ROWS), READ_LOCK_TIMEOUT_MS);
  }

  return {
    /**
     * Counts new and changed rows within a time limit. Concurrent calls share a count, but never a count that started before the call.
     * After a failure, or while another instance is counting, the figures may be out of date.
     * @returns the counting state, or undefined if nothing has been counted yet.
     */
    async bringUpToDate(): Promise<queries.CountingState | undefined> {
      nextRun ??= currentRun.then(() => {
        nextRun = null;
        currentRun = catchUp().catch((err) => {
          if (!isLockConflict(err)) log.warn({ err }, "updating analytics failed");
        });
        return currentRun;
      });
      await nextRun;
      return queries.findCountingState(database);
    },

    /**
     * Job: counts all new rows and rolls up days. After each step, it pauses for as long as the step took, to leave capacity for requests.
     */
    async run(signal: AbortSignal): Promise<void> {
      const runStep = async (work: (sql: Sql) => Promise<boolean>): Promise<boolean> => {
        if (signal.aborted) return false;
        const startedAtMs = performance.now();
        const didWork = await runInTransaction(work, JOB_LOCK_TIMEOUT_MS);
        if (didWork) await Bun.sleep(performance.now() - startedAtMs);
        return didWork;
      };
      // Rolls up days between counting steps, because reading days that aren't rolled up is slow.
      for (let [isCounting, isRollingUp] = [true, true]; isCounting || isRollingUp; ) {
        if (isCounting) isCounting = await runStep((sql) => queries.countBatch(sql, STEP_ROWS));
        isRollingUp = await runStep(queries.rollUpDay);
      }
    },
  };
}
