import { expect } from "bun:test";
import type { Database } from "../../src/db/client.ts";

/**
 * Latency limits for requests that don't need the lock. Such requests normally take about 5 ms, or up to several hundred ms
 * on a busy machine. Requests that wait for a lock take a second or more.
 */
const P99_MS_MAX = 900;
const LATENCY_MS_MAX = 1_000;

/** Calls `work` repeatedly for `totalMs`, and returns the duration of each call. */
export async function measureDurations(totalMs: number, work: () => Promise<unknown>, pauseMs = 20): Promise<number[]> {
  const durationsMs: number[] = [];
  const deadlineMs = performance.now() + totalMs;
  while (performance.now() < deadlineMs) {
    const startedAtMs = performance.now();
    await work();
    durationsMs.push(performance.now() - startedAtMs);
    await Bun.sleep(pauseMs);
  }
  return durationsMs;
}

/** Expects that no call waited for a lock. */
export function expectUndisturbed(durationsMs: number[], countMin = 10): void {
  const sorted = durationsMs.toSorted((a, b) => a - b);
  const p99 = sorted[Math.ceil(sorted.length * 0.99) - 1] ?? 0;
  const max = sorted.at(-1) ?? 0;
  if (process.env.SHOW_TIMES) console.log({ count: durationsMs.length, p50: sorted[sorted.length >> 1], p99, max });
  expect(durationsMs.length).toBeGreaterThanOrEqual(countMin);
  expect(p99).toBeLessThan(P99_MS_MAX);
  expect(max).toBeLessThan(LATENCY_MS_MAX);
}

/** Holds row locks, as another instance would, while `work` runs. */
export async function whileLocked<T>(
  database: Database,
  lock: string,
  parameters: (string | string[])[],
  work: () => Promise<T>,
): Promise<T> {
  const transaction = await database.begin(async (sql) => {
    await sql`set local idle_in_transaction_session_timeout = 0`;
    await sql.unsafe(lock, parameters);
    return { result: await work() };
  });
  return transaction.result as T;
}

export const LOCK_CONVERSATIONS = "select 1 from conversations where id = any ($1) for update";
