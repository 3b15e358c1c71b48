import { expect, test } from "bun:test";
import { createFlushScheduler, FLUSHED_PER_TICK_MAX } from "../../src/modules/generations/flush-scheduler.ts";

const MS = 20;

test("all who wait are flushed once, together, and others get their turn in between", async () => {
  const flushes = createFlushScheduler(() => MS);
  const flushed: number[] = [];
  let turns = 0;
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
    turns += 1;
    sizes.add(flushed.length);
  }
  expect(performance.now() - startedMs).toBeGreaterThanOrEqual(MS - 2);
  expect(flushed).toEqual(answers.map((_, n) => n));
  expect([...sizes].every((size) => size % FLUSHED_PER_TICK_MAX === 0 || size === count)).toBeTrue();
  expect(turns).toBeGreaterThan(1);
  await Bun.sleep(2 * MS);
  expect(flushed.length).toBe(count);
});

test("who was flushed otherwise waits no more, also when that happens while others are flushed", async () => {
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
