import { expect, test } from "bun:test";
import {
  createFlushInterval,
  FLUSH_MS_MAX,
  FLUSH_MS_MIN,
  nextFlushMs,
} from "../../src/modules/generations/flush-interval.ts";

const BUSY = { share: 0.9, lagMs: 0 };
const IDLE = { share: 0.1, lagMs: 0 };

test("the interval grows gradually under load up to a limit, and shrinks when the load is low", () => {
  const listIntervals = (from: number, load: typeof BUSY) => {
    const intervals = [from];
    for (let n = 0; n < 6; n += 1) intervals.push(nextFlushMs(intervals.at(-1) ?? 0, load));
    return intervals;
  };
  expect(listIntervals(FLUSH_MS_MIN, BUSY)).toEqual([4, 8, 16, 32, 64, FLUSH_MS_MAX, FLUSH_MS_MAX]);
  expect(listIntervals(FLUSH_MS_MAX, IDLE)).toEqual([66, 33, 16.5, 8.25, 4.125, FLUSH_MS_MIN, FLUSH_MS_MIN]);
  expect(nextFlushMs(16, { share: 0.6, lagMs: 0 })).toBe(16);
  expect(nextFlushMs(16, { share: 0.1, lagMs: 10 })).toBe(16);
  // Other processes use the CPU, so this process's event loop lags although it uses little CPU time.
  expect(nextFlushMs(16, { share: 0.1, lagMs: 30 })).toBe(32);
});

test("the interval depends on the process's CPU time, but a single peak doesn't change it", async () => {
  // The clocks are simulated, because the test machine may be busy. 100 ms pass between two readings.
  let [nowMs, cpuMs, cpuMsPerReading, readings] = [0, 0, 0, 0];
  const findFlushMs = createFlushInterval({
    readMs: () => (nowMs += 100),
    readCpuMs() {
      readings += 1;
      cpuMs += cpuMsPerReading;
      return cpuMs;
    },
  });
  const takeReadings = async (times: number) => {
    for (const end = readings + 2 * times; readings < end; ) {
      findFlushMs();
      await Bun.sleep(10);
    }
  };
  await takeReadings(1);
  cpuMsPerReading = 100;
  await takeReadings(1);
  cpuMsPerReading = 0;
  await takeReadings(1);
  expect(findFlushMs()).toBe(FLUSH_MS_MIN);
  cpuMsPerReading = 100;
  await takeReadings(12);
  expect(findFlushMs()).toBe(FLUSH_MS_MAX);
  cpuMsPerReading = 0;
  await takeReadings(12);
  expect(findFlushMs()).toBe(FLUSH_MS_MIN);
}, 20_000);
