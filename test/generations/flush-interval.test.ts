import { expect, test } from "bun:test";
import {
  createFlushInterval,
  FLUSH_MS_MAX,
  FLUSH_MS_MIN,
  nextFlushMs,
} from "../../src/modules/generations/flush-interval.ts";

const BUSY = { cpuShare: 0.9, lagMs: 0 };
const IDLE = { cpuShare: 0.1, lagMs: 0 };

test("the flush interval grows gradually under load up to a limit, and shrinks when the load is low", () => {
  const listIntervals = (from: number, load: typeof BUSY) => {
    const intervals = [from];
    for (let n = 0; n < 6; n += 1) intervals.push(nextFlushMs(intervals.at(-1) ?? 0, load));
    return intervals;
  };
  expect(listIntervals(FLUSH_MS_MIN, BUSY)).toEqual([4, 8, 16, 32, 64, FLUSH_MS_MAX, FLUSH_MS_MAX]);
  expect(listIntervals(FLUSH_MS_MAX, IDLE)).toEqual([66, 33, 16.5, 8.25, 4.125, FLUSH_MS_MIN, FLUSH_MS_MIN]);
  expect(nextFlushMs(16, { cpuShare: 0.6, lagMs: 0 })).toBe(16);
  expect(nextFlushMs(16, { cpuShare: 0.1, lagMs: 10 })).toBe(16);
  // This process uses little CPU time, but its event loop lags because other processes use the CPU.
  expect(nextFlushMs(16, { cpuShare: 0.1, lagMs: 30 })).toBe(32);
});

test("the flush interval depends on the process's CPU time, but a single peak in CPU time doesn't change it", async () => {
  // The clocks are simulated, because the test machine may be busy. Each reading is 100 ms after the previous one.
  let [nowMs, cpuMs, cpuMsPerInterval, readings] = [0, 0, 0, 0];
  const getFlushMs = createFlushInterval({
    getTimeMs: () => (nowMs += 100),
    getCpuTimeMs() {
      readings += 1;
      cpuMs += cpuMsPerInterval;
      return cpuMs;
    },
  });
  const waitForReadings = async (times: number) => {
    for (const endReadings = readings + 2 * times; readings < endReadings; ) {
      getFlushMs();
      await Bun.sleep(10);
    }
  };
  await waitForReadings(1);
  cpuMsPerInterval = 100;
  await waitForReadings(1);
  cpuMsPerInterval = 0;
  await waitForReadings(1);
  expect(getFlushMs()).toBe(FLUSH_MS_MIN);
  cpuMsPerInterval = 100;
  await waitForReadings(12);
  expect(getFlushMs()).toBe(FLUSH_MS_MAX);
  cpuMsPerInterval = 0;
  await waitForReadings(12);
  expect(getFlushMs()).toBe(FLUSH_MS_MIN);
}, 20_000);
