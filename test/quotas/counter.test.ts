import { expect, test } from "bun:test";
import { Problem } from "../../src/lib/problem.ts";
import { createQuotaCounter } from "../../src/modules/quotas/counter.ts";

/** Creates a counter for one user. `state` contains the stored value, and the number and duration of database queries. */
function createTestCounter(limit: number) {
  const state = { storedCount: 0, queryCount: 0, queryMs: 0 };
  const counter = createQuotaCounter({
    limit,
    async count() {
      state.queryCount += 1;
      const { storedCount } = state;
      if (state.queryMs > 0) await Bun.sleep(state.queryMs);
      return storedCount;
    },
    createError: () => new Problem("quota_exceeded", "Full."),
  });
  const store = async (amount = 1) => {
    await Bun.sleep(1);
    state.storedCount += amount;
  };
  return { state, counter, reserve: (amount = 1) => counter.reserve("anna", amount, () => store(amount)) };
}
const exceedsQuota = (work: Promise<unknown>) =>
  work.then(
    () => false,
    (error) => error instanceof Problem && error.code === "quota_exceeded",
  );

test("the database is queried once for many reservations, and then only when the limit is reached", async () => {
  const { state, reserve } = createTestCounter(100);
  for (let n = 0; n < 100; n += 1) await reserve();
  expect(state.queryCount).toBe(1);
  expect(await exceedsQuota(reserve())).toBe(true);
  expect(state.queryCount).toBe(2);
  for (let n = 0; n < 50; n += 1) expect(await exceedsQuota(reserve())).toBe(true);
  expect(state.queryCount).toBeLessThan(10);
});

test("concurrent reservations never exceed the limit, and leave no capacity unused", async () => {
  const { state, reserve } = createTestCounter(10);
  const rejections = await Promise.all(Array.from({ length: 50 }, () => exceedsQuota(reserve())));
  expect(rejections.filter(Boolean)).toHaveLength(40);
  expect(state.storedCount).toBe(10);
});

test("failed reservations do not count", async () => {
  const { state, counter, reserve } = createTestCounter(2);
  const failToStore = async () => {
    throw new Error("not stored");
  };
  for (let n = 0; n < 10; n += 1) await counter.reserve("anna", 1, failToStore).catch(() => {});
  await reserve();
  await reserve();
  expect(state.storedCount).toBe(2);
});

test("a deletion releases capacity immediately, or within 150 ms if it was made on another instance", async () => {
  const { state, counter, reserve } = createTestCounter(2);
  await reserve(2);
  expect(await exceedsQuota(reserve())).toBe(true);
  state.storedCount = 1;
  counter.invalidate("anna");
  await reserve();
  expect(await exceedsQuota(reserve())).toBe(true);
  state.storedCount = 1;
  await Bun.sleep(150);
  await reserve();
  expect(await counter.getUsed("anna")).toBe(2);
});

test("a slow first count doesn't delay reservations, and is used as soon as it finishes", async () => {
  const { state, reserve } = createTestCounter(10);
  state.queryMs = 700;
  state.storedCount = 10;
  const startedAtMs = performance.now();
  await reserve();
  expect(performance.now() - startedAtMs).toBeLessThan(600);
  await Bun.sleep(600);
  state.queryMs = 0;
  expect(await exceedsQuota(reserve())).toBe(true);
});

test("counting is throttled if a user at the limit repeatedly adds and deletes", async () => {
  const { state, counter, reserve } = createTestCounter(10);
  state.storedCount = 10;
  state.queryMs = 50;
  const deadlineMs = performance.now() + 1_000;
  while (performance.now() < deadlineMs) {
    counter.invalidate("anna");
    expect(await exceedsQuota(reserve())).toBe(true);
  }
  // Without throttling, there would be about 20 counts.
  expect(state.queryCount).toBeLessThan(9);
});
