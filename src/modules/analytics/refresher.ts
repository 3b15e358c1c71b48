import { createSidePool, type Database, isLockConflict, type Sql } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import * as queries from "./queries.ts";

/** Messages counted per step: by the job, and by a read. */
const STEP_ROWS = 10_000;
const READ_STEP_ROWS = 5_000;
/** How long a read spends on counting new messages. */
const READ_MS_MAX = 200;
/** If counting the newest slots takes no longer than this, each read does it. Otherwise counting pauses between reads, so that it uses a tenth of the time. */
const FAST_STEP_MS = 100;
const PAUSE_FACTOR = 9;
/** How long a read waits for the end of such a pause. */
const PAUSE_WAIT_MS_MAX = 2_000;
/** Large changes take long. */
const STATEMENT_TIMEOUT_MS = 120_000;
/** How long a step waits for another instance's step or for the job: in a read, and in the job. */
const READ_LOCK_TIMEOUT_MS = 1_000;
const JOB_LOCK_TIMEOUT_MS = 10_000;

type Dependencies = { database: Database; metrics: Metrics; log: Log };

/** Keeps the figures up to date in steps, one step at a time across all instances. */
export function createRefresher({ database, metrics, log }: Dependencies) {
  /** Steps wait for each other and may take long, so they use separate connections. */
  const pool = createSidePool(database, 2, { statementTimeoutMs: STATEMENT_TIMEOUT_MS });
  let current: Promise<void> = Promise.resolve();
  let next: Promise<void> | null = null;

  async function step<T>(work: (sql: Sql) => Promise<T>, lockTimeoutMs: number): Promise<T> {
    const end = metrics.analyticsRefreshDuration.startTimer();
    const result = await pool.open().begin(async (sql) => {
      // A pooler doesn't forward the pool's timeout setting.
      await sql`
        select set_config('lock_timeout', ${`${lockTimeoutMs}ms`}, true),
          set_config('statement_timeout', ${`${STATEMENT_TIMEOUT_MS}ms`}, true)`;
      return work(sql);
    });
    end();
    return result as T;
  }

  async function catchUp(): Promise<void> {
    const endsAtMs = performance.now() + READ_MS_MAX;
    const state = await queries.findState(database);
    if (state && state.took_ms > FAST_STEP_MS) {
      const pauseMs = PAUSE_FACTOR * state.took_ms - state.age_ms;
      if (pauseMs > PAUSE_WAIT_MS_MAX) return;
      await Bun.sleep(Math.max(0, pauseMs));
    }
    for (let more = true; more && performance.now() < endsAtMs; )
      more = await step((sql) => queries.refresh(sql, READ_STEP_ROWS), READ_LOCK_TIMEOUT_MS);
  }

  return {
    /**
     * Counts new and changed rows within a time limit. Concurrent reads share a count, but never one that began before
     * the read. After a failure, or while another instance is counting, the figures are older.
     * @returns what is counted; undefined: nothing yet.
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

    /** For the job runner: counts everything new and rolls up days. It pauses as long as it works, to leave capacity for others. */
    async run(signal: AbortSignal): Promise<void> {
      const runStep = async (work: (sql: Sql) => Promise<boolean>): Promise<boolean> => {
        if (signal.aborted) return false;
        const startedAtMs = performance.now();
        const isDone = await step(work, JOB_LOCK_TIMEOUT_MS);
        if (isDone) await Bun.sleep(performance.now() - startedAtMs);
        return isDone;
      };
      // Roll up days immediately: reads of days not rolled up are slow.
      for (let [isCounting, isSummingUp] = [true, true]; isCounting || isSummingUp; ) {
        if (isCounting) isCounting = await runStep((sql) => queries.refresh(sql, STEP_ROWS));
        isSummingUp = await runStep(queries.rollUpDay);
      }
    },
  };
}
