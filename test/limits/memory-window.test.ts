import { afterEach, expect, setSystemTime, test } from "bun:test";
import { RateLimiterRes } from "rate-limiter-flexible";
import { KEYS_MAX, MemoryWindow } from "../../src/limits/memory-window.ts";

const START = new Date("2026-01-31T12:00:00Z").getTime();
const at = (seconds: number) => setSystemTime(new Date(START + seconds * 1_000));
afterEach(() => void setSystemTime());

test("begins with the first use, and expires", () => {
  at(0);
  const window = new MemoryWindow({ points: 2, durationS: 10 });
  expect(window.hit("a").points).toBe(1);
  at(9.9);
  expect(window.hit("a").points).toBe(2);
  expect(window.hit("b").points).toBe(1);
  at(10);
  expect(window.peek("a")).toBeUndefined();
  expect(window.hit("a")).toEqual({ points: 1, endsAtMs: START + 20_000 });
  expect(window.hit("b").points).toBe(2);
});

test("deletes expired windows with later uses", () => {
  at(0);
  const window = new MemoryWindow({ points: 2, durationS: 10 });
  for (let n = 0; n < 1_000; n += 1) window.hit(`old ${n}`);
  at(11);
  window.hit("new");
  at(22);
  window.hit("newer");
  expect(window.size).toBe(1);
});

test("forgets nothing before its window ends while there is room", () => {
  at(0);
  const window = new MemoryWindow({ points: 2, durationS: 10 });
  for (let n = 0; n < 50; n += 1) {
    at(n / 2);
    window.hit(`key ${n}`);
    for (let known = Math.max(0, n - 19); known <= n; known += 1) expect(window.peek(`key ${known}`)?.points).toBe(1);
  }
});

test("holds 100,000 of 250,000 addresses within one window, and keeps the newest", () => {
  at(0);
  const window = new MemoryWindow({ points: 2, durationS: 60 });
  for (let n = 0; n < 250_000; n += 1) {
    window.hit(`address ${n}`);
    if (window.size > KEYS_MAX) throw new Error(`${window.size} keys`);
  }
  expect(window.size).toBeGreaterThanOrEqual(KEYS_MAX / 2);
  expect(window.hit("address 249999").points).toBe(2);
  expect(window.peek("address 0")).toBeUndefined();
});

test("implements the library's limiter interface, so it can replace Redis", async () => {
  at(0);
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
  at(3);
  expect(await window.get("a")).toBeNull();
});
