import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { claimDueJobs, completeJob, enqueue, type QueuedJob } from "../../src/jobs/queue.ts";
import { createJobRunner, type Jobs, type QueueWork } from "../../src/jobs/runner.ts";
import { createId } from "../../src/lib/id.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { waitUntil } from "../support/wait-until.ts";

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

function startInstance(runJob: QueueWork, concurrency = 2): Jobs {
  const jobs = createJobRunner({ database, log: silentLog, instanceId: createId() });
  jobs.registerQueue("letters", runJob, { concurrency });
  jobs.start();
  startedJobs.push(jobs);
  return jobs;
}
const claimJobs = (owner: string, rows = 10, leaseMs = 10_000) =>
  claimDueJobs(database, "letters", owner, { leaseMs, rows });
const countJobs = async () => (await database`select 1 from jobs where queue = 'letters'`).length;
const listKeys = (jobs: QueuedJob[]) => jobs.map(({ key }) => key).sort();
describe("a queued job", () => {
  test("runs once on one of several instances, and is then deleted", async () => {
    const keys = Array.from({ length: 40 }, (_, n) => `letter ${n}`);
    const finishedKeys: string[] = [];
    let runningCount = 0;
    let runningMax = 0;
    const runJob = async (key: string) => {
      runningCount += 1;
      runningMax = Math.max(runningMax, runningCount);
      await Bun.sleep(2);
      runningCount -= 1;
      finishedKeys.push(key);
    };
    const instances = [startInstance(runJob), startInstance(runJob)];
    await enqueue(database, "letters", keys);
    for (const jobs of instances) jobs.nudge("letters");
    await waitUntil(async () => (await countJobs()) === 0);
    expect(finishedKeys.sort()).toEqual([...keys].sort());
    // Each of the two instances runs up to two jobs at the same time.
    expect(runningMax).toBeGreaterThan(1);
    expect(runningMax).toBeLessThanOrEqual(4);
  });

  test("is queued only if its transaction commits, and once per key", async () => {
    const failingTransaction = database.begin(async (sql) => {
      await enqueue(sql, "letters", ["a"]);
      throw new Error("rolled back");
    });
    expect(failingTransaction).rejects.toThrow("rolled back");
    await failingTransaction.catch(() => {});
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
    const [row] = await database<{ attempts: number; delay_s: number }[]>`
      select attempts, extract(epoch from lease_until - now())::float8 as delay_s from jobs where queue = 'letters'`;
    expect(row?.attempts).toBe(1);
    expect(row?.delay_s).toBeGreaterThan(0.2);
    await waitUntil(async () => (await countJobs()) === 0);
    expect(attempts).toBe(2);
  });

  test("moves to another instance when its lease expires, and the first instance's result is ignored", async () => {
    const [crashedInstance, otherInstance] = [createId(), createId()];
    await enqueue(database, "letters", ["a", "b"]);
    const [firstClaim] = await claimJobs(crashedInstance, 1, 50);
    if (!firstClaim) throw new Error("Nothing was claimed.");
    expect(listKeys(await claimJobs(otherInstance))).toEqual([firstClaim.key === "a" ? "b" : "a"]);
    await Bun.sleep(60);
    const [secondClaim] = await claimJobs(otherInstance);
    expect(secondClaim).toMatchObject({ key: firstClaim.key, attempts: 2, fence: firstClaim.fence + 1 });
    await completeJob(database, crashedInstance, firstClaim);
    expect(await countJobs()).toBe(2);
    if (secondClaim) await completeJob(database, otherInstance, secondClaim);
    expect(await countJobs()).toBe(1);
  });

  test("is skipped while another transaction locks it", async () => {
    await enqueue(database, "letters", ["a", "b", "c"]);
    await database.begin(async (sql) => {
      await sql`select 1 from jobs where key = 'b' for update`;
      expect(listKeys(await claimJobs(createId()))).toEqual(["a", "c"]);
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
    expect(await claimJobs(createId())).toEqual([]);
    await jobs.stop(Date.now() + 1_000);
    expect(listKeys(await claimJobs(createId()))).toEqual(["a"]);
  });

  test("is aborted if its lease is lost", async () => {
    const started = Promise.withResolvers<void>();
    const aborted = Promise.withResolvers<void>();
    const jobs = startInstance(async (_key, signal) => {
      started.resolve();
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      aborted.resolve();
    });
    await enqueue(database, "letters", ["a"]);
    jobs.nudge("letters");
    await started.promise;
    await database`update jobs set owner = ${createId()}, fence = fence + 1 where queue = 'letters'`;
    await aborted.promise;
    expect(await countJobs()).toBe(1);
  });

  test("isn't started twice by the same instance if its lease expires while it runs", async () => {
    let runningCount = 0;
    const resume = Promise.withResolvers<void>();
    const signals: AbortSignal[] = [];
    const jobs = startInstance(async (_key, signal) => {
      runningCount += 1;
      signals.push(signal);
      await resume.promise;
    });
    await enqueue(database, "letters", ["a"]);
    jobs.nudge("letters");
    await waitUntil(() => runningCount === 1);
    const [initialJob] = await database<{ fence: number }[]>`select fence from jobs where queue = 'letters'`;
    await database`update jobs set lease_until = now() - interval '1 s' where queue = 'letters'`;
    jobs.nudge("letters");
    const getFence = async () =>
      (await database<{ fence: number }[]>`select fence from jobs where queue = 'letters'`)[0]?.fence;
    await waitUntil(async () => (await getFence()) === (initialJob?.fence ?? 0) + 1);
    await Bun.sleep(50);
    expect({ runningCount, isAborted: signals[0]?.aborted }).toEqual({ runningCount: 1, isAborted: false });
    // The instance has claimed the job again, so the result is stored.
    resume.resolve();
    await waitUntil(async () => (await countJobs()) === 0);
  });
});
