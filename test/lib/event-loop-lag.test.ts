import { expect, test } from "bun:test";
import { watchEventLoopLag } from "../../src/lib/event-loop-lag.ts";

test("a long event loop lag is reported only while the event loop is blocked", async () => {
  const lags: number[] = [];
  const stopWatching = watchEventLoopLag((lagS) => lags.push(lagS));
  await Bun.sleep(450);
  Bun.sleepSync(350);
  while (lags.length < 1) await Bun.sleep(10);
  const [blockedLagS = 0] = lags;
  expect(blockedLagS).toBeGreaterThan(0.2);
  while (lags.length < 2) await Bun.sleep(10);
  expect(lags[1]).toBeLessThan(blockedLagS);
  stopWatching();
  const countAtStop = lags.length;
  await Bun.sleep(600);
  expect(lags).toHaveLength(countAtStop);
});
