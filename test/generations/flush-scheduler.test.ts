import { expect, test } from "bun:test";
import { createFlushScheduler, FLUSHES_PER_TICK_MAX } from "../../src/modules/generations/flush-scheduler.ts";

const DELAY_MS = 20;

test("all waiting answers are flushed once, in batches between which other tasks can run", async () => {
  const flushes = createFlushScheduler(() => DELAY_MS);
  const flushed: number[] = [];
  let iterations = 0;
  const count = FLUSHES_PER_TICK_MAX * 2 + 1;
  const answers = Array.from({ length: count }, (_, n) => ({ flush: () => flushed.push(n) }));
  const startedAtMs = performance.now();
  for (const answer of answers) {
    flushes.schedule(answer);
    flushes.schedule(answer);
  }
  const sizes = new Set<number>();
  while (flushed.length < count) {
    await Bun.sleep(0);
    iterations += 1;
    sizes.add(flushed.length);
  }
  expect(performance.now() - startedAtMs).toBeGreaterThanOrEqual(DELAY_MS - 2);
  expect(flushed).toEqual(answers.map((_, n) => n));
  expect([...sizes].every((size) => size % FLUSHES_PER_TICK_MAX === 0 || size === count)).toBeTrue();
  expect(iterations).toBeGreaterThan(1);
  await Bun.sleep(2 * DELAY_MS);
  expect(flushed.length).toBe(count);
});

test("a cancelled flush doesn't run, even if it is cancelled while another flush runs", async () => {
  const flushes = createFlushScheduler(() => DELAY_MS);
  const flushed: string[] = [];
  const first = { flush: () => flushed.push("first") };
  const second = {
    flush() {
      flushed.push("second");
      flushes.cancel(second);
    },
  };
  flushes.schedule(first);
  flushes.schedule(second);
  flushes.schedule({ flush: () => flushed.push("third") });
  flushes.cancel(first);
  await Bun.sleep(3 * DELAY_MS);
  expect(flushed).toEqual(["second", "third"]);
  flushes.schedule(first);
  await Bun.sleep(3 * DELAY_MS);
  expect(flushed).toEqual(["second", "third", "first"]);
});
