import { afterEach, expect, setSystemTime, test } from "bun:test";
import { RateLimiterRes } from "rate-limiter-flexible";
import { KEYS_MAX, MemoryWindow } from "../../src/limits/memory-window.ts";

const START = new Date("2026-01-31T12:00:00Z").getTime();
const setTime = (seconds: number) => setSystemTime(new Date(START + seconds * 1_000));
afterEach(() => void setSystemTime());

test("a key's window begins with its first hit, and expires", () => {
  setTime(0);
  const window = new MemoryWindow({ points: 2, durationS: 10 });
  expect(window.hit("a").points).toBe(1);
  setTime(9.9);
  expect(window.hit("a").points).toBe(2);
  expect(window.hit("b").points).toBe(1);
  setTime(10);
  expect(window.peek("a")).toBeUndefined();
  expect(window.hit("a")).toEqual({ points: 1, endsAtMs: START + 20_000 });
  expect(window.hit("b").points).toBe(2);
});

test("later hits delete expired windows", () => {
  setTime(0);
  const window = new MemoryWindow({ points: 2, durationS: 10 });
  for (let n = 0; n < 1_000; n += 1) window.hit(`old ${n}`);
  setTime(11);
  window.hit("new");
  setTime(22);
  window.hit("newer");
  expect(window.size).toBe(1);
});

test("below the key limit, no key is dropped before its window ends", () => {
  setTime(0);
  const window = new MemoryWindow({ points: 2, durationS: 10 });
  for (let n = 0; n < 50; n += 1) {
    setTime(n / 2);
    window.hit(`key ${n}`);
    for (let known = Math.max(0, n - 19); known <= n; known += 1) expect(window.peek(`key ${known}`)?.points).toBe(1);
  }
});

test("at most 100,000 keys are kept, and the oldest are dropped first", () => {
  setTime(0);
  const window = new MemoryWindow({ points: 2, durationS: 60 });
  for (let n = 0; n < 250_000; n += 1) {
    window.hit(`address ${n}`);
    if (window.size > KEYS_MAX) throw new Error(`${window.size} keys`);
  }
  expect(window.size).toBeGreaterThanOrEqual(KEYS_MAX / 2);
  expect(window.hit("address 249999").points).toBe(2);
  expect(window.peek("address 0")).toBeUndefined();
});

test("implements rate-limiter-flexible's interface, so it can replace the Redis limiter", async () => {
  setTime(0);
  const window = new MemoryWindow({ points: 2, durationS: 10 });
  expect(await window.consume("a")).toMatchObject({ consumedPoints: 1, remainingPoints: 1, msBeforeNext: 10_000 });
  expect(await window.consume("a")).toMatchObject({ consumedPoints: 2, remainingPoints: 0 });
  const refusal = await window.consume("a").catch((reason) => reason);
  expect(refusal).toBeInstanceOf(RateLimiterRes);
  expect(refusal).toMatchObject({ consumedPoints: 3, remainingPoints: 0, msBeforeNext: 10_000 });
  expect((await window.reward("a", 2)).consumedPoints).toBe(1);
  expect((await window.penalty("a")).consumedPoints).toBe(2);
  expect(await window.delete("a")).toBe(true);
  expect(await window.get("a")).toBeNull();
  await window.block("a", 3);
  expect(await window.get("a")).toMatchObject({ consumedPoints: 3, msBeforeNext: 3_000 });
  setTime(3);
  expect(await window.get("a")).toBeNull();
});
