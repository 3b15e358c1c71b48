import { expect, test } from "bun:test";
import { Problem } from "../../src/lib/problem.ts";
import { createQuotaCounter } from "../../src/modules/quotas/counter.ts";

/** A counter of one user, with the stored value in a variable. */
function createWatched(limit: number) {
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
  return { state, counter, take: (amount = 1) => counter.reserve("anna", amount, () => store(amount)) };
}
const isRefused = (work: Promise<unknown>) =>
  work.then(
    () => false,
    (error) => error instanceof Problem && error.code === "quota_exceeded",
  );

test("the database is queried once for many uses, and again only at the limit", async () => {
  const { state, take } = createWatched(100);
  for (let n = 0; n < 100; n += 1) await take();
  expect(state.counts).toBe(1);
  expect(await isRefused(take())).toBe(true);
  expect(state.counts).toBe(2);
  for (let n = 0; n < 50; n += 1) expect(await isRefused(take())).toBe(true);
  expect(state.counts).toBeLessThan(10);
});

test("concurrent uses never exceed the limit, and leave no capacity unused", async () => {
  const { state, take } = createWatched(10);
  const refused = await Promise.all(Array.from({ length: 50 }, () => isRefused(take())));
  expect(refused.filter((is) => is)).toHaveLength(40);
  expect(state.stored).toBe(10);
});

test("failed uses do not count", async () => {
  const { state, counter, take } = createWatched(2);
  const fail = async () => {
    throw new Error("not stored");
  };
  for (let n = 0; n < 10; n += 1) await counter.reserve("anna", 1, fail).catch(() => {});
  await take();
  await take();
  expect(state.stored).toBe(2);
});

test("a deletion frees capacity at once; one on another instance is found before the user is refused for long", async () => {
  const { state, counter, take } = createWatched(2);
  await take(2);
  expect(await isRefused(take())).toBe(true);
  state.stored = 1;
  counter.invalidate("anna");
  await take();
  expect(await isRefused(take())).toBe(true);
  state.stored = 1;
  await Bun.sleep(150);
  await take();
  expect(await counter.read("anna")).toBe(2);
});

test("a slow first count delays no one, and applies as soon as it is available", async () => {
  const { state, take } = createWatched(10);
  state.countMs = 700;
  state.stored = 10;
  const startedAtMs = performance.now();
  await take();
  expect(performance.now() - startedAtMs).toBeLessThan(600);
  await Bun.sleep(600);
  state.countMs = 0;
  expect(await isRefused(take())).toBe(true);
});

test("for a user at the limit who keeps adding and deleting, the database counts only part of the time", async () => {
  const { state, counter, take } = createWatched(10);
  state.stored = 10;
  state.countMs = 50;
  const endsAtMs = performance.now() + 1_000;
  while (performance.now() < endsAtMs) {
    counter.invalidate("anna");
    expect(await isRefused(take())).toBe(true);
  }
  // Of 20 that would fit one after the other.
  expect(state.counts).toBeLessThan(9);
});
