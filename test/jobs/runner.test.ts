import { expect, test } from "bun:test";
import { createJobRunner } from "../../src/jobs/runner.ts";
import { createLog } from "../../src/lib/log.ts";

const log = createLog("silent", "json");
const INTERVAL_MS = 5;

test("a job runs again and again, and never beside itself", async () => {
  const jobs = createJobRunner({ log });
  let runs = 0;
  let beside = 0;
  let mostBeside = 0;
  jobs.every("slow", INTERVAL_MS, async () => {
    beside += 1;
    mostBeside = Math.max(mostBeside, beside);
    await Bun.sleep(3 * INTERVAL_MS);
    beside -= 1;
    runs += 1;
  });
  while (runs < 3) await Bun.sleep(INTERVAL_MS);
  await jobs.stop(Date.now() + 1_000);
  expect(mostBeside).toBe(1);
  const atStop = runs;
  await Bun.sleep(10 * INTERVAL_MS);
  expect(runs).toBe(atStop);
});

test("a failed run is logged, once until one succeeds, and the next one comes", async () => {
  const lines: string[] = [];
  const recording = Object.assign(Object.create(log), {
    error: (_line: object, message: string) => lines.push(message),
  });
  const jobs = createJobRunner({ log: recording });
  let runs = 0;
  jobs.every("failing", INTERVAL_MS, async () => {
    runs += 1;
    if (runs !== 3) throw new Error("no");
  });
  while (runs < 6) await Bun.sleep(INTERVAL_MS);
  await jobs.stop(Date.now() + 1_000);
  expect(lines).toEqual(["job failed", "job failed"]);
});

test("stopping aborts what runs, waits for it, but not for ever", async () => {
  const jobs = createJobRunner({ log });
  let wasAborted = false;
  const started = Promise.withResolvers<void>();
  jobs.every("obedient", 1, async (signal) => {
    started.resolve();
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    await Bun.sleep(INTERVAL_MS);
    wasAborted = true;
  });
  await started.promise;
  await jobs.stop(Date.now() + 1_000);
  expect(wasAborted).toBe(true);

  const stubborn = createJobRunner({ log });
  const hanging = Promise.withResolvers<void>();
  stubborn.every("stubborn", 1, () => {
    hanging.resolve();
    return new Promise(() => {});
  });
  await hanging.promise;
  const startedAt = performance.now();
  await stubborn.stop(Date.now() + 30);
  expect(performance.now() - startedAt).toBeLessThan(500);
});

test("a name is taken once", () => {
  const jobs = createJobRunner({ log });
  jobs.every("one", 60_000, async () => {});
  expect(() => jobs.every("one", 60_000, async () => {})).toThrow("There already is a job one.");
  void jobs.stop(Date.now());
});
