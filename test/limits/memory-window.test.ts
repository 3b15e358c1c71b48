import { afterEach, expect, setSystemTime, test } from "bun:test";
import { RateLimiterRes } from "rate-limiter-flexible";
import { KEYS_MAX, MemoryWindow } from "../../src/limits/memory-window.ts";

const START = new Date("2026-01-31T12:00:00Z").getTime();
const setTime = (seconds: number) => setSystemTime(new Date(START + seconds * 1_000));
afterEach(() => void setSystemTime());

test("a key's window begins with its first hit, and expires", () => {
  setTime(0);
  const limiter = new MemoryWindow({ points: 2, durationS: 10 });
  expect(limiter.hit("a").points).toBe(1);
  setTime(9.9);
  expect(limiter.hit("a").points).toBe(2);
  expect(limiter.hit("b").points).toBe(1);
  setTime(10);
  expect(limiter.peek("a")).toBeUndefined();
  expect(limiter.hit("a")).toEqual({ points: 1, endsAtMs: START + 20_000 });
  expect(limiter.hit("b").points).toBe(2);
});

test("later hits delete expired windows", () => {
  setTime(0);
  const limiter = new MemoryWindow({ points: 2, durationS: 10 });
  for (let n = 0; n < 1_000; n += 1) limiter.hit(`old ${n}`);
  setTime(11);
  limiter.hit("new");
  setTime(22);
  limiter.hit("newer");
  expect(limiter.size).toBe(1);
});

test("below the key limit, no key is dropped before its window ends", () => {
  setTime(0);
  const limiter = new MemoryWindow({ points: 2, durationS: 10 });
  for (let n = 0; n < 50; n += 1) {
    setTime(n / 2);
    limiter.hit(`key ${n}`);
    for (let known = Math.max(0, n - 19); known <= n; known += 1) expect(limiter.peek(`key ${known}`)?.points).toBe(1);
  }
});

test("at most 100,000 keys are kept, and the oldest are dropped first", () => {
  setTime(0);
  const limiter = new MemoryWindow({ points: 2, durationS: 60 });
  for (let n = 0; n < 250_000; n += 1) {
    limiter.hit(`address ${n}`);
    if (limiter.size > KEYS_MAX) throw new Error(`${limiter.size} keys`);
  }
  expect(limiter.size).toBeGreaterThanOrEqual(KEYS_MAX / 2);
  expect(limiter.hit("address 249999").points).toBe(2);
  expect(limiter.peek("address 0")).toBeUndefined();
});

test("the memory window implements rate-limiter-flexible's interface, so it can replace the Redis limiter", async () => {
  setTime(0);
  const limiter = new MemoryWindow({ points: 2, durationS: 10 });
  expect(await limiter.consume("a")).toMatchObject({ consumedPoints: 1, remainingPoints: 1, msBeforeNext: 10_000 });
  expect(await limiter.consume("a")).toMatchObject({ consumedPoints: 2, remainingPoints: 0 });
  const rejection = await limiter.consume("a").catch((reason) => reason);
  expect(rejection).toBeInstanceOf(RateLimiterRes);
  expect(rejection).toMatchObject({ consumedPoints: 3, remainingPoints: 0, msBeforeNext: 10_000 });
  expect((await limiter.reward("a", 2)).consumedPoints).toBe(1);
  expect((await limiter.penalty("a")).consumedPoints).toBe(2);
  expect(await limiter.delete("a")).toBe(true);
  expect(await limiter.get("a")).toBeNull();
  await limiter.block("a", 3);
  expect(await limiter.get("a")).toMatchObject({ consumedPoints: 3, msBeforeNext: 3_000 });
  setTime(3);
  expect(await limiter.get("a")).toBeNull();
});
