import { expect, test } from "bun:test";
import { createFlushScheduler, FLUSHES_PER_TICK_MAX } from "../../src/modules/generations/flush-scheduler.ts";

const DELAY_MS = 20;

test("all scheduled answers are flushed once, in batches, so that other tasks can run between the batches", async () => {
  const scheduler = createFlushScheduler(() => DELAY_MS);
  const flushedItems: number[] = [];
  let iterations = 0;
  const count = FLUSHES_PER_TICK_MAX * 2 + 1;
  const answers = Array.from({ length: count }, (_, n) => ({ flush: () => flushedItems.push(n) }));
  const startedAtMs = performance.now();
  for (const answer of answers) {
    scheduler.schedule(answer);
    scheduler.schedule(answer);
  }
  const flushedCounts = new Set<number>();
  while (flushedItems.length < count) {
    await Bun.sleep(0);
    iterations += 1;
    flushedCounts.add(flushedItems.length);
  }
  expect(performance.now() - startedAtMs).toBeGreaterThanOrEqual(DELAY_MS - 2);
  expect(flushedItems).toEqual(answers.map((_, n) => n));
  expect([...flushedCounts].every((size) => size % FLUSHES_PER_TICK_MAX === 0 || size === count)).toBeTrue();
  expect(iterations).toBeGreaterThan(1);
  await Bun.sleep(2 * DELAY_MS);
  expect(flushedItems.length).toBe(count);
});

test("a cancelled flush doesn't run, even if it is cancelled while another flush runs", async () => {
  const scheduler = createFlushScheduler(() => DELAY_MS);
  const flushedItems: string[] = [];
  const firstAnswer = { flush: () => flushedItems.push("first") };
  const secondAnswer = {
    flush() {
      flushedItems.push("second");
      scheduler.cancel(secondAnswer);
    },
  };
  scheduler.schedule(firstAnswer);
  scheduler.schedule(secondAnswer);
  scheduler.schedule({ flush: () => flushedItems.push("third") });
  scheduler.cancel(firstAnswer);
  await Bun.sleep(3 * DELAY_MS);
  expect(flushedItems).toEqual(["second", "third"]);
  scheduler.schedule(firstAnswer);
  await Bun.sleep(3 * DELAY_MS);
  expect(flushedItems).toEqual(["second", "third", "first"]);
});
