import { expect, test } from "bun:test";
import { createFlushScheduler, FLUSHED_PER_TICK_MAX } from "../../src/modules/generations/flush-scheduler.ts";

const MS = 20;

test("all waiting answers are flushed once, together, and other work runs in between", async () => {
  const flushes = createFlushScheduler(() => MS);
  const flushed: number[] = [];
  let iterations = 0;
  const count = FLUSHED_PER_TICK_MAX * 2 + 1;
  const answers = Array.from({ length: count }, (_, n) => ({ flush: () => flushed.push(n) }));
  const startedMs = performance.now();
  for (const answer of answers) {
    flushes.wait(answer);
    flushes.wait(answer);
  }
  const sizes = new Set<number>();
  while (flushed.length < count) {
    await Bun.sleep(0);
    iterations += 1;
    sizes.add(flushed.length);
  }
  expect(performance.now() - startedMs).toBeGreaterThanOrEqual(MS - 2);
  expect(flushed).toEqual(answers.map((_, n) => n));
  expect([...sizes].every((size) => size % FLUSHED_PER_TICK_MAX === 0 || size === count)).toBeTrue();
  expect(iterations).toBeGreaterThan(1);
  await Bun.sleep(2 * MS);
  expect(flushed.length).toBe(count);
});

test("an answer flushed separately is not flushed again, even if that happens during a flush", async () => {
  const flushes = createFlushScheduler(() => MS);
  const flushed: string[] = [];
  const gone = { flush: () => flushed.push("gone") };
  const own = {
    flush() {
      flushed.push("own");
      flushes.forget(own);
    },
  };
  flushes.wait(gone);
  flushes.wait(own);
  flushes.wait({ flush: () => flushed.push("last") });
  flushes.forget(gone);
  await Bun.sleep(3 * MS);
  expect(flushed).toEqual(["own", "last"]);
  flushes.wait(gone);
  await Bun.sleep(3 * MS);
  expect(flushed).toEqual(["own", "last", "gone"]);
});
