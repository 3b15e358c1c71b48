import { expect } from "bun:test";
import type { Database } from "../../src/db/client.ts";

/**
 * Latency limits for a bystander that doesn't need the lock: about 5 ms normally, up to some hundreds on a busy machine.
 * Requests that wait for a lock take a second or more.
 */
const P99_MS = 900;
const MAX_MS = 1_000;

/** The duration of each call, one after the other, for this long. */
export async function measure(ms: number, work: () => Promise<unknown>, pauseMs = 20): Promise<number[]> {
  const took: number[] = [];
  const endsAtMs = performance.now() + ms;
  while (performance.now() < endsAtMs) {
    const startedAtMs = performance.now();
    await work();
    took.push(performance.now() - startedAtMs);
    await Bun.sleep(pauseMs);
  }
  return took;
}

export function expectUndisturbed(took: number[], countMin = 10): void {
  const sorted = took.toSorted((a, b) => a - b);
  const p99 = sorted[Math.ceil(sorted.length * 0.99) - 1] ?? 0;
  const max = sorted.at(-1) ?? 0;
  if (process.env.SHOW_TIMES) console.log({ count: took.length, p50: sorted[sorted.length >> 1], p99, max });
  expect(took.length).toBeGreaterThanOrEqual(countMin);
  expect(p99).toBeLessThan(P99_MS);
  expect(max).toBeLessThan(MAX_MS);
}

/** Holds row locks, as another instance would, while `work` runs. */
export async function whileLocked<T>(
  database: Database,
  lock: string,
  parameters: (string | string[])[],
  work: () => Promise<T>,
): Promise<T> {
  const running = await database.begin(async (sql) => {
    await sql`set local idle_in_transaction_session_timeout = 0`;
    await sql.unsafe(lock, parameters);
    return { result: await work() };
  });
  return running.result as T;
}

export const LOCK_CONVERSATIONS = "select 1 from conversations where id = any ($1) for update";
