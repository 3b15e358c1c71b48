import { expect, test } from "bun:test";
import { Problem } from "../../src/lib/problem.ts";
import { createQuotaCounter } from "../../src/modules/quotas/counter.ts";

/** Creates a counter for one user. `state` has the stored value and the number of database queries. */
function createTestCounter(limit: number) {
  const state = { stored: 0, counts: 0, countMs: 0 };
  const counter = createQuotaCounter({
    limit,
    async count() {
      state.counts += 1;
      const { stored } = state;
      if (state.countMs > 0) await Bun.sleep(state.countMs);
      return stored;
    },
    createError: () => new Problem("quota_exceeded", "Full."),
  });
  const store = async (amount = 1) => {
    await Bun.sleep(1);
    state.stored += amount;
  };
  return { state, counter, reserve: (amount = 1) => counter.reserve("anna", amount, () => store(amount)) };
}
const isRefused = (work: Promise<unknown>) =>
  work.then(
    () => false,
    (error) => error instanceof Problem && error.code === "quota_exceeded",
  );

test("the database is queried once for many reservations, and again only at the limit", async () => {
  const { state, reserve } = createTestCounter(100);
  for (let n = 0; n < 100; n += 1) await reserve();
  expect(state.counts).toBe(1);
  expect(await isRefused(reserve())).toBe(true);
  expect(state.counts).toBe(2);
  for (let n = 0; n < 50; n += 1) expect(await isRefused(reserve())).toBe(true);
  expect(state.counts).toBeLessThan(10);
});

test("concurrent reservations never exceed the limit, and leave no capacity unused", async () => {
  const { state, reserve } = createTestCounter(10);
  const refused = await Promise.all(Array.from({ length: 50 }, () => isRefused(reserve())));
  expect(refused.filter(Boolean)).toHaveLength(40);
  expect(state.stored).toBe(10);
});

test("failed reservations do not count", async () => {
  const { state, counter, reserve } = createTestCounter(2);
  const fail = async () => {
    throw new Error("not stored");
  };
  for (let n = 0; n < 10; n += 1) await counter.reserve("anna", 1, fail).catch(() => {});
  await reserve();
  await reserve();
  expect(state.stored).toBe(2);
});

test("a deletion releases capacity immediately, or within 150 ms if it was made on another instance", async () => {
  const { state, counter, reserve } = createTestCounter(2);
  await reserve(2);
  expect(await isRefused(reserve())).toBe(true);
  state.stored = 1;
  counter.invalidate("anna");
  await reserve();
  expect(await isRefused(reserve())).toBe(true);
  state.stored = 1;
  await Bun.sleep(150);
  await reserve();
  expect(await counter.getUsed("anna")).toBe(2);
});

test("a slow first count doesn't delay reservations, and is used as soon as it finishes", async () => {
  const { state, reserve } = createTestCounter(10);
  state.countMs = 700;
  state.stored = 10;
  const startedAtMs = performance.now();
  await reserve();
  expect(performance.now() - startedAtMs).toBeLessThan(600);
  await Bun.sleep(600);
  state.countMs = 0;
  expect(await isRefused(reserve())).toBe(true);
});

test("counting is throttled if a user at the limit keeps adding and deleting", async () => {
  const { state, counter, reserve } = createTestCounter(10);
  state.stored = 10;
  state.countMs = 50;
  const deadlineMs = performance.now() + 1_000;
  while (performance.now() < deadlineMs) {
    counter.invalidate("anna");
    expect(await isRefused(reserve())).toBe(true);
  }
  // Without throttling, there would be about 20 counts.
  expect(state.counts).toBeLessThan(9);
});
