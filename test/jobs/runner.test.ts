import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { createJobs } from "../../src/jobs/runner.ts";
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

/** The jobs of one instance, started. */
function startJobs(by = log) {
  const jobs = createJobs({ database, log: by, instanceId: createId() });
  jobs.start();
  return jobs;
}

test("a job runs at its interval, and never overlaps with itself", async () => {
  const jobs = startJobs();
  let runs = 0;
  let running = 0;
  let mostRunning = 0;
  jobs.everyOnEach("slow", INTERVAL_MS, async () => {
    running += 1;
    mostRunning = Math.max(mostRunning, running);
    await Bun.sleep(3 * INTERVAL_MS);
    running -= 1;
    runs += 1;
  });
  while (runs < 3) await Bun.sleep(INTERVAL_MS);
  await jobs.stop(Date.now() + 1_000);
  expect(mostRunning).toBe(1);
  const atStop = runs;
  await Bun.sleep(10 * INTERVAL_MS);
  expect(runs).toBe(atStop);
});

test("a failing job logs once until it succeeds, and keeps its schedule", async () => {
  const lines: string[] = [];
  const recording = Object.assign(Object.create(log), {
    error: (_line: object, message: string) => lines.push(message),
  });
  const jobs = startJobs(recording);
  let runs = 0;
  jobs.everyOnEach("failing", INTERVAL_MS, async () => {
    runs += 1;
    if (runs !== 3) throw new Error("no");
  });
  while (runs < 6) await Bun.sleep(INTERVAL_MS);
  await jobs.stop(Date.now() + 1_000);
  expect(lines).toEqual(["job failed", "job failed"]);
});

test("stopping aborts running jobs and waits for them, but not forever", async () => {
  const jobs = startJobs();
  let wasAborted = false;
  const started = Promise.withResolvers<void>();
  jobs.everyOnEach("obedient", 1, async (signal) => {
    started.resolve();
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    await Bun.sleep(INTERVAL_MS);
    wasAborted = true;
  });
  await started.promise;
  await jobs.stop(Date.now() + 1_000);
  expect(wasAborted).toBe(true);

  const unresponsive = startJobs();
  const hanging = Promise.withResolvers<void>();
  unresponsive.everyOnEach("unresponsive", 1, () => {
    hanging.resolve();
    return new Promise(() => {});
  });
  await hanging.promise;
  const startedAt = performance.now();
  await unresponsive.stop(Date.now() + 30);
  expect(performance.now() - startedAt).toBeLessThan(500);
});

test("two jobs can't have the same name", () => {
  const jobs = startJobs();
  jobs.everyOnEach("one", 60_000, async () => {});
  expect(() => jobs.everyOnEach("one", 60_000, async () => {})).toThrow("A job named one already exists.");
  void jobs.stop(Date.now());
});

test("nothing runs before the start", async () => {
  const jobs = createJobs({ database, log, instanceId: createId() });
  let runs = 0;
  jobs.everyOnEach("early", 1, async () => {
    runs += 1;
  });
  await Bun.sleep(5 * INTERVAL_MS);
  expect(runs).toBe(0);
  jobs.start();
  while (runs === 0) await Bun.sleep(INTERVAL_MS);
  await jobs.stop(Date.now() + 1_000);
});

test("a singleton job runs on one of many instances, and moves when that one stops", async () => {
  const instances = Array.from({ length: 3 }, () => startJobs());
  const runs = [0, 0, 0];
  let running = 0;
  let mostRunning = 0;
  instances.forEach((jobs, n) => {
    jobs.everyOnOne("shared", INTERVAL_MS, async () => {
      running += 1;
      mostRunning = Math.max(mostRunning, running);
      await Bun.sleep(2 * INTERVAL_MS);
      running -= 1;
      runs[n] = (runs[n] ?? 0) + 1;
    });
  });
  const total = () => runs.reduce((sum, count) => sum + count, 0);
  while (total() < 10) await Bun.sleep(INTERVAL_MS);
  await Promise.all(instances.slice(0, 2).map((jobs) => jobs.stop(Date.now() + 1_000)));
  const before = runs[2] ?? 0;
  while ((runs[2] ?? 0) < before + 3) await Bun.sleep(INTERVAL_MS);
  await instances[2]?.stop(Date.now() + 1_000);
  expect(mostRunning).toBe(1);
});

test("a singleton job keeps its interval across all instances", async () => {
  const instances = Array.from({ length: 4 }, () => startJobs());
  let runs = 0;
  for (const jobs of instances)
    jobs.everyOnOne("rare", 200, async () => {
      runs += 1;
    });
  await Bun.sleep(500);
  await Promise.all(instances.map((jobs) => jobs.stop(Date.now() + 1_000)));
  expect(runs).toBeGreaterThanOrEqual(1);
  expect(runs).toBeLessThanOrEqual(3);
});

test("a job that is not due is not claimed", async () => {
  const jobs = startJobs();
  let polls = 0;
  let runs = 0;
  jobs.everyOnOne(
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

test("instances that claim the same work under strict isolation, as behind a pooler, log no error", async () => {
  const made = await createTestDatabase();
  await made.database.unsafe(`alter database ${made.name} set default_transaction_isolation = 'serializable'`);
  const strict = openDatabase({ target: made.target, poolSize: 8, session: {} });
  const errors: unknown[] = [];
  const recording = Object.assign(Object.create(log), { error: (line: unknown) => errors.push(line) });
  let runs = 0;
  const instances = Array.from({ length: 4 }, () => {
    const jobs = createJobs({ database: strict, log: recording, instanceId: createId() });
    jobs.everyOnOne("contested", 1, async () => {
      runs += 1;
    });
    jobs.start();
    return jobs;
  });
  while (runs < 60) await Bun.sleep(INTERVAL_MS);
  for (const jobs of instances) await jobs.stop(Date.now() + 1_000);
  await strict.end({ timeout: 1 });
  await made.database.end({ timeout: 1 });
  expect(errors).toEqual([]);
});
