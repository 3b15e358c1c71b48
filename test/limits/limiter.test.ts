import { afterEach, expect, setSystemTime, test } from "bun:test";
import { createLimiter, type LimitResult } from "../../src/limits/limiter.ts";

const START = new Date("2026-01-31T12:00:00Z").getTime();
const setTime = (seconds: number) => setSystemTime(new Date(START + seconds * 1_000));
afterEach(() => void setSystemTime());

const createTestLimiter = (burst: number, sustained: number) => {
  const { consume, peek } = createLimiter({ name: "test", rate: { burst, sustained }, redis: null });
  // Without Redis, both methods return synchronously.
  return { consume: (key: string) => consume(key) as LimitResult, peek: (key: string) => peek(key) as LimitResult };
};

test("consuming reports what remains in both windows, and when they reset", () => {
  setTime(0);
  const { consume } = createTestLimiter(2, 5);
  expect(consume("a")).toMatchObject({
    isAllowed: true,
    remaining: 1,
    policy: '"burst";q=2;w=10, "sustained";q=5;w=60',
    state: '"burst";r=1;t=10, "sustained";r=4;t=60',
  });
  setTime(3.5);
  expect(consume("a").state).toBe('"burst";r=0;t=7, "sustained";r=3;t=57');
  expect(consume("a")).toMatchObject({
    isAllowed: false,
    violatedWindows: ["burst"],
    retryAfterMs: 6_500,
    state: '"burst";r=0;t=7, "sustained";r=3;t=57',
  });
  expect(consume("b").isAllowed).toBe(true);
});

test("a request that the burst window rejects does not count in the sustained window", () => {
  setTime(0);
  const { consume } = createTestLimiter(2, 5);
  for (let n = 0; n < 100; n += 1) consume("a");
  setTime(10);
  expect([consume("a").isAllowed, consume("a").isAllowed, consume("a").isAllowed]).toEqual([true, true, false]);
  setTime(20);
  expect(consume("a").isAllowed).toBe(true);
  expect(consume("a")).toMatchObject({ isAllowed: false, violatedWindows: ["sustained"], retryAfterMs: 40_000 });
  setTime(60);
  expect(consume("a").isAllowed).toBe(true);
});

test("peeking doesn't count as a request, and reports whether the next request would be allowed", () => {
  const { consume, peek } = createTestLimiter(1, 5);
  expect([peek("a").isAllowed, peek("a").isAllowed]).toEqual([true, true]);
  consume("a");
  expect(peek("a")).toMatchObject({ isAllowed: false, violatedWindows: ["burst"] });
});
