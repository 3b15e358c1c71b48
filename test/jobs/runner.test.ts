import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { createJobRunner } from "../../src/jobs/runner.ts";
import { createId } from "../../src/lib/id.ts";
import { createLog } from "../../src/lib/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

const log = createLog("silent", "json");
const INTERVAL_MS = 5;

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end({ timeout: 1 }));

/** Starts the jobs of one instance. */
function startJobs(jobLog = log) {
  const jobs = createJobRunner({ database, log: jobLog, instanceId: createId() });
  jobs.start();
  return jobs;
}

test("a job runs at its interval, and never overlaps with itself", async () => {
  const jobs = startJobs();
  let runs = 0;
  let runningCount = 0;
  let runningMax = 0;
  jobs.scheduleOnEachInstance("slow", INTERVAL_MS, async () => {
    runningCount += 1;
    runningMax = Math.max(runningMax, runningCount);
    await Bun.sleep(3 * INTERVAL_MS);
    runningCount -= 1;
    runs += 1;
  });
  while (runs < 3) await Bun.sleep(INTERVAL_MS);
  await jobs.stop(Date.now() + 1_000);
  expect(runningMax).toBe(1);
  const runsAtStop = runs;
  await Bun.sleep(10 * INTERVAL_MS);
  expect(runs).toBe(runsAtStop);
});

test("a failing job is logged once until it succeeds, and keeps its schedule", async () => {
  const lines: string[] = [];
  const recordingLog = Object.assign(Object.create(log), {
    error: (_line: object, message: string) => lines.push(message),
  });
  const jobs = startJobs(recordingLog);
  let runs = 0;
  jobs.scheduleOnEachInstance("failing", INTERVAL_MS, async () => {
    runs += 1;
    if (runs !== 3) throw new Error("no");
  });
  while (runs < 6) await Bun.sleep(INTERVAL_MS);
  await jobs.stop(Date.now() + 1_000);
  expect(lines).toEqual(["job failed", "job failed"]);
});

test("`stop` aborts running jobs and waits until they finish or its deadline passes", async () => {
  const jobs = startJobs();
  let wasAborted = false;
  const started = Promise.withResolvers<void>();
  jobs.scheduleOnEachInstance("cooperative", 1, async (signal) => {
    started.resolve();
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    await Bun.sleep(INTERVAL_MS);
    wasAborted = true;
  });
  await started.promise;
  await jobs.stop(Date.now() + 1_000);
  expect(wasAborted).toBe(true);

  const unresponsiveJobs = startJobs();
  const hangingStarted = Promise.withResolvers<void>();
  unresponsiveJobs.scheduleOnEachInstance("unresponsive", 1, () => {
    hangingStarted.resolve();
    return new Promise(() => {});
  });
  await hangingStarted.promise;
  const startedAtMs = performance.now();
  await unresponsiveJobs.stop(Date.now() + 30);
  expect(performance.now() - startedAtMs).toBeLessThan(500);
});

test("two jobs can't have the same name", () => {
  const jobs = startJobs();
  jobs.scheduleOnEachInstance("one", 60_000, async () => {});
  expect(() => jobs.scheduleOnEachInstance("one", 60_000, async () => {})).toThrow("A job named one already exists.");
  void jobs.stop(Date.now());
});

test("a job doesn't run before `start`", async () => {
  const jobs = createJobRunner({ database, log, instanceId: createId() });
  let runs = 0;
  jobs.scheduleOnEachInstance("early", 1, async () => {
    runs += 1;
  });
  await Bun.sleep(5 * INTERVAL_MS);
  expect(runs).toBe(0);
  jobs.start();
  while (runs === 0) await Bun.sleep(INTERVAL_MS);
  await jobs.stop(Date.now() + 1_000);
});

test("a singleton job runs on one instance at a time, and moves to another instance when the first one stops", async () => {
  const instances = Array.from({ length: 3 }, () => startJobs());
  const runs = [0, 0, 0];
  let runningCount = 0;
  let runningMax = 0;
  instances.forEach((jobs, n) => {
    jobs.scheduleOnOneInstance("shared", INTERVAL_MS, async () => {
      runningCount += 1;
      runningMax = Math.max(runningMax, runningCount);
      await Bun.sleep(2 * INTERVAL_MS);
      runningCount -= 1;
      runs[n] = (runs[n] ?? 0) + 1;
    });
  });
  const countRuns = () => runs.reduce((sum, count) => sum + count, 0);
  while (countRuns() < 10) await Bun.sleep(INTERVAL_MS);
  await Promise.all(instances.slice(0, 2).map((jobs) => jobs.stop(Date.now() + 1_000)));
  const previousRuns = runs[2] ?? 0;
  while ((runs[2] ?? 0) < previousRuns + 3) await Bun.sleep(INTERVAL_MS);
  await instances[2]?.stop(Date.now() + 1_000);
  expect(runningMax).toBe(1);
});

test("a singleton job keeps its interval across all instances", async () => {
  const instances = Array.from({ length: 4 }, () => startJobs());
  let runs = 0;
  for (const jobs of instances)
    jobs.scheduleOnOneInstance("rare", 200, async () => {
      runs += 1;
    });
  await Bun.sleep(500);
  await Promise.all(instances.map((jobs) => jobs.stop(Date.now() + 1_000)));
  expect(runs).toBeGreaterThanOrEqual(1);
  expect(runs).toBeLessThanOrEqual(3);
});

test("a job that isn't due isn't claimed", async () => {
  const jobs = startJobs();
  let polls = 0;
  let runs = 0;
  jobs.scheduleOnOneInstance(
    "seldom due",
    1,
    async () => {
      runs += 1;
    },
    async () => {
      polls += 1;
      return polls % 5 === 0;
    },
  );
  while (runs < 2) await Bun.sleep(INTERVAL_MS);
  await jobs.stop(Date.now() + 1_000);
  expect(polls).toBeGreaterThanOrEqual(10);
});

test("instances that claim the same job with serializable isolation log no error", async () => {
  const testDatabase = await createTestDatabase();
  await testDatabase.database.unsafe(
    `alter database ${testDatabase.name} set default_transaction_isolation = 'serializable'`,
  );
  const serializableDatabase = openDatabase({ target: testDatabase.target, poolSize: 8, session: {} });
  const errors: unknown[] = [];
  const recordingLog = Object.assign(Object.create(log), { error: (line: unknown) => errors.push(line) });
  let runs = 0;
  const instances = Array.from({ length: 4 }, () => {
    const jobs = createJobRunner({ database: serializableDatabase, log: recordingLog, instanceId: createId() });
    jobs.scheduleOnOneInstance("contested", 1, async () => {
      runs += 1;
    });
    jobs.start();
    return jobs;
  });
  while (runs < 60) await Bun.sleep(INTERVAL_MS);
  for (const jobs of instances) await jobs.stop(Date.now() + 1_000);
  await serializableDatabase.end({ timeout: 1 });
  await testDatabase.database.end({ timeout: 1 });
  expect(errors).toEqual([]);
});
