import { expect, test } from "bun:test";
import {
  createFlushInterval,
  FLUSH_MS_MAX,
  FLUSH_MS_MIN,
  nextFlushMs,
} from "../../src/modules/generations/flush-interval.ts";

const BUSY = { share: 0.9, lagMs: 0 };
const IDLE = { share: 0.1, lagMs: 0 };

test("under load, deltas are delayed gradually up to a limit, and back; small changes have no effect", () => {
  const intervals = (from: number, load: typeof BUSY) => {
    const all = [from];
    for (let n = 0; n < 6; n += 1) all.push(nextFlushMs(all.at(-1) ?? 0, load));
    return all;
  };
  expect(intervals(FLUSH_MS_MIN, BUSY)).toEqual([4, 8, 16, 32, 64, FLUSH_MS_MAX, FLUSH_MS_MAX]);
  expect(intervals(FLUSH_MS_MAX, IDLE)).toEqual([66, 33, 16.5, 8.25, 4.125, FLUSH_MS_MIN, FLUSH_MS_MIN]);
  expect(nextFlushMs(16, { share: 0.6, lagMs: 0 })).toBe(16);
  expect(nextFlushMs(16, { share: 0.1, lagMs: 10 })).toBe(16);
  // A machine busy with other processes: this one uses little CPU and is still late.
  expect(nextFlushMs(16, { share: 0.1, lagMs: 30 })).toBe(32);
});

test("the interval follows the process's CPU time, and one busy moment doesn't count", async () => {
  // Simulated clocks, since the test machine may be busy: 100 ms pass between two readings.
  let [nowMs, cpuMs, usedMs, readings] = [0, 0, 0, 0];
  const find = createFlushInterval({
    readMs: () => (nowMs += 100),
    readCpuMs() {
      readings += 1;
      cpuMs += usedMs;
      return cpuMs;
    },
  });
  const measured = async (times: number) => {
    for (const end = readings + 2 * times; readings < end; ) {
      find();
      await Bun.sleep(10);
    }
  };
  await measured(1);
  usedMs = 100;
  await measured(1);
  usedMs = 0;
  await measured(1);
  expect(find()).toBe(FLUSH_MS_MIN);
  usedMs = 100;
  await measured(12);
  expect(find()).toBe(FLUSH_MS_MAX);
  usedMs = 0;
  await measured(12);
  expect(find()).toBe(FLUSH_MS_MIN);
}, 20_000);
