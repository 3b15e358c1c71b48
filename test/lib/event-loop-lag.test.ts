import { expect, test } from "bun:test";
import { watchEventLoopLag } from "../../src/lib/event-loop-lag.ts";

test("detects a blocked event loop, and no lag in a free one", async () => {
  const lags: number[] = [];
  const stop = watchEventLoopLag((lagS) => lags.push(lagS));
  await Bun.sleep(450);
  Bun.sleepSync(350);
  while (lags.length < 1) await Bun.sleep(10);
  const [blocked = 0] = lags;
  expect(blocked).toBeGreaterThan(0.2);
  while (lags.length < 2) await Bun.sleep(10);
  expect(lags[1]).toBeLessThan(blocked);
  stop();
  const atStop = lags.length;
  await Bun.sleep(600);
  expect(lags).toHaveLength(atStop);
});
