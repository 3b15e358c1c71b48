import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { claimDue, complete, enqueue, type QueuedJob } from "../../src/jobs/queue.ts";
import { createJobs, type Jobs, type QueueWork } from "../../src/jobs/runner.ts";
import { createId } from "../../src/lib/id.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
const startedJobs: Jobs[] = [];
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
beforeEach(async () => {
  await database`delete from jobs`;
});
afterEach(async () => {
  await Promise.all(startedJobs.splice(0).map((jobs) => jobs.stop(Date.now() + 1_000)));
});
afterAll(() => database.end({ timeout: 1 }));

function startInstance(work: QueueWork, concurrency = 2): Jobs {
  const jobs = createJobs({ database, log: silentLog, instanceId: createId() });
  jobs.queue("letters", work, { concurrency });
  jobs.start();
  startedJobs.push(jobs);
  return jobs;
}
const claim = (owner: string, rows = 10, leaseMs = 10_000) => claimDue(database, "letters", owner, { leaseMs, rows });
const countJobs = async () => (await database`select 1 from jobs where queue = 'letters'`).length;
const listKeys = (jobs: QueuedJob[]) => jobs.map(({ key }) => key).sort();
async function waitUntil(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadlineMs = Date.now() + 5_000; !(await condition()); await Bun.sleep(5))
    if (Date.now() > deadlineMs) throw new Error("Timed out after 5 s.");
}

describe("a queued job", () => {
  test("runs once on one of several instances, and is then deleted", async () => {
    const keys = Array.from({ length: 40 }, (_, n) => `letter ${n}`);
    const done: string[] = [];
    let running = 0;
    let runningMax = 0;
    const work = async (key: string) => {
      running += 1;
      runningMax = Math.max(runningMax, running);
      await Bun.sleep(2);
      running -= 1;
      done.push(key);
    };
    const instances = [startInstance(work), startInstance(work)];
    await enqueue(database, "letters", keys);
    for (const jobs of instances) jobs.nudge("letters");
    await waitUntil(async () => (await countJobs()) === 0);
    expect(done.sort()).toEqual([...keys].sort());
    // Each of the two instances runs up to two jobs at the same time.
    expect(runningMax).toBeGreaterThan(1);
    expect(runningMax).toBeLessThanOrEqual(4);
  });

  test("is queued only if its transaction commits, and once per key", async () => {
    const rolledBack = database.begin(async (sql) => {
      await enqueue(sql, "letters", ["a"]);
      throw new Error("rolled back");
    });
    expect(rolledBack).rejects.toThrow("rolled back");
    await rolledBack.catch(() => {});
    expect(await countJobs()).toBe(0);
    await Promise.all([enqueue(database, "letters", ["a", "b"]), enqueue(database, "letters", ["b", "a"])]);
    expect(await countJobs()).toBe(2);
  });

  test("is retried later after a failure, and its error is stored", async () => {
    let attempts = 0;
    const jobs = startInstance(async () => {
      attempts += 1;
      if (attempts === 1) throw new Error("the mail server is down");
    });
    await enqueue(database, "letters", ["a"]);
    jobs.nudge("letters");
    await waitUntil(() => attempts === 1);
    await waitUntil(
      async () => (await database`select 1 from jobs where error like '%the mail server is down'`).length === 1,
    );
    const [row] = await database<{ attempts: number; waits: number }[]>`
      select attempts, extract(epoch from lease_until - now())::float8 as waits from jobs where queue = 'letters'`;
    expect(row?.attempts).toBe(1);
    expect(row?.waits).toBeGreaterThan(0.2);
    await waitUntil(async () => (await countJobs()) === 0);
    expect(attempts).toBe(2);
  });

  test("moves to another instance when its lease expires, and the first instance's result is ignored", async () => {
    const [crashedInstance, otherInstance] = [createId(), createId()];
    await enqueue(database, "letters", ["a", "b"]);
    const [firstClaim] = await claim(crashedInstance, 1, 50);
    if (!firstClaim) throw new Error("Nothing was claimed.");
    expect(listKeys(await claim(otherInstance))).toEqual([firstClaim.key === "a" ? "b" : "a"]);
    await Bun.sleep(60);
    const [secondClaim] = await claim(otherInstance);
    expect(secondClaim).toMatchObject({ key: firstClaim.key, attempts: 2, fence: firstClaim.fence + 1 });
    await complete(database, crashedInstance, firstClaim);
    expect(await countJobs()).toBe(2);
    if (secondClaim) await complete(database, otherInstance, secondClaim);
    expect(await countJobs()).toBe(1);
  });

  test("is skipped while another transaction locks it", async () => {
    await enqueue(database, "letters", ["a", "b", "c"]);
    await database.begin(async (sql) => {
      await sql`select 1 from jobs where key = 'b' for update`;
      expect(listKeys(await claim(createId()))).toEqual(["a", "c"]);
    });
  });

  test("is aborted when its instance stops, and another instance can claim it immediately", async () => {
    const started = Promise.withResolvers<void>();
    const jobs = startInstance(async (_key, signal) => {
      started.resolve();
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      signal.throwIfAborted();
    });
    await enqueue(database, "letters", ["a"]);
    jobs.nudge("letters");
    await started.promise;
    expect(await claim(createId())).toEqual([]);
    await jobs.stop(Date.now() + 1_000);
    expect(listKeys(await claim(createId()))).toEqual(["a"]);
  });

  test("is aborted if its lease is lost", async () => {
    const started = Promise.withResolvers<void>();
    const lost = Promise.withResolvers<void>();
    const jobs = startInstance(async (_key, signal) => {
      started.resolve();
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      lost.resolve();
    });
    await enqueue(database, "letters", ["a"]);
    jobs.nudge("letters");
    await started.promise;
    await database`update jobs set owner = ${createId()}, fence = fence + 1 where queue = 'letters'`;
    await lost.promise;
    expect(await countJobs()).toBe(1);
  });

  test("isn't started twice by the same instance if its lease expires while it runs", async () => {
    let running = 0;
    const resume = Promise.withResolvers<void>();
    const signals: AbortSignal[] = [];
    const jobs = startInstance(async (_key, signal) => {
      running += 1;
      signals.push(signal);
      await resume.promise;
    });
    await enqueue(database, "letters", ["a"]);
    jobs.nudge("letters");
    await waitUntil(() => running === 1);
    const [before] = await database<{ fence: number }[]>`select fence from jobs where queue = 'letters'`;
    await database`update jobs set lease_until = now() - interval '1 s' where queue = 'letters'`;
    jobs.nudge("letters");
    const readFence = async () =>
      (await database<{ fence: number }[]>`select fence from jobs where queue = 'letters'`)[0]?.fence;
    await waitUntil(async () => (await readFence()) === (before?.fence ?? 0) + 1);
    await Bun.sleep(50);
    expect({ running, isLost: signals[0]?.aborted }).toEqual({ running: 1, isLost: false });
    // The instance has claimed the job again, so the result is stored.
    resume.resolve();
    await waitUntil(async () => (await countJobs()) === 0);
  });
});
