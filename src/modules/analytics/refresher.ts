import { createSidePool, type Database, isLockConflict, type Sql } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import * as queries from "./queries.ts";

/** Messages that the job counts per step. */
const STEP_ROWS = 10_000;
/** Messages that a read counts per step. */
const READ_STEP_ROWS = 5_000;
/** How long a read may spend on counting new messages. */
const READ_MS_MAX = 200;
/** If recounting the newest messages takes no longer than this, every read does it. */
const FAST_STEP_MS = 100;
/** Otherwise reads pause between counts for this many times as long, so that counting uses a tenth of the time. */
const PAUSE_FACTOR = 9;
/** The longest that a read waits for such a pause to end. */
const PAUSE_WAIT_MS_MAX = 2_000;
/** Long, because a step may have to count a large change. */
const STATEMENT_TIMEOUT_MS = 120_000;
/** How long a read waits for a step of another instance or of the job. */
const READ_LOCK_TIMEOUT_MS = 1_000;
/** How long the job waits for a step of a read. */
const JOB_LOCK_TIMEOUT_MS = 10_000;

type Dependencies = { database: Database; metrics: Metrics; log: Log };

/** Keeps the figures up to date in steps, one step at a time across all instances. */
export function createRefresher({ database, metrics, log }: Dependencies) {
  /** A separate pool, because steps wait for each other and may take long. */
  const pool = createSidePool(database, 2, { statementTimeoutMs: STATEMENT_TIMEOUT_MS });
  let current: Promise<void> = Promise.resolve();
  let next: Promise<void> | null = null;

  async function step<T>(work: (sql: Sql) => Promise<T>, lockTimeoutMs: number): Promise<T> {
    const end = metrics.analyticsRefreshDuration.startTimer();
    const result = await pool.open().begin(async (sql) => {
      // A pooler such as PgBouncer doesn't forward the pool's timeout setting.
      await sql`
        select set_config('lock_timeout', ${`${lockTimeoutMs}ms`}, true),
          set_config('statement_timeout', ${`${STATEMENT_TIMEOUT_MS}ms`}, true)`;
      return work(sql);
    });
    end();
    return result as T;
  }

  async function catchUp(): Promise<void> {
    const deadlineMs = performance.now() + READ_MS_MAX;
    const state = await queries.findState(database);
    if (state && state.took_ms > FAST_STEP_MS) {
      const pauseMs = PAUSE_FACTOR * state.took_ms - state.age_ms;
      if (pauseMs > PAUSE_WAIT_MS_MAX) return;
      await Bun.sleep(Math.max(0, pauseMs));
    }
    for (let more = true; more && performance.now() < deadlineMs; )
      more = await step((sql) => queries.refresh(sql, READ_STEP_ROWS), READ_LOCK_TIMEOUT_MS);
  }

  return {
    /**
     * Counts new and changed rows within a time limit. Concurrent reads share a count, but never one that began before
     * the read. After a failure, or while another instance is counting, the figures may be out of date.
     * @returns the state of the counting; undefined if nothing has been counted yet.
     */
    async bringUpToDate(): Promise<queries.State | undefined> {
      next ??= current.then(() => {
        next = null;
        current = catchUp().catch((err) => {
          if (!isLockConflict(err)) log.warn({ err }, "updating analytics failed");
        });
        return current;
      });
      await next;
      return queries.findState(database);
    },

    /**
     * Counts everything new and rolls up days, as a job. After each step it pauses for as long as the step took, to leave
     * capacity for requests.
     */
    async run(signal: AbortSignal): Promise<void> {
      const runStep = async (work: (sql: Sql) => Promise<boolean>): Promise<boolean> => {
        if (signal.aborted) return false;
        const startedAtMs = performance.now();
        const hasWorked = await step(work, JOB_LOCK_TIMEOUT_MS);
        if (hasWorked) await Bun.sleep(performance.now() - startedAtMs);
        return hasWorked;
      };
      // Roll up days between counting steps: reading days that aren't rolled up is slow.
      for (let [isCounting, isRollingUp] = [true, true]; isCounting || isRollingUp; ) {
        if (isCounting) isCounting = await runStep((sql) => queries.refresh(sql, STEP_ROWS));
        isRollingUp = await runStep(queries.rollUpDay);
      }
    },
  };
}
