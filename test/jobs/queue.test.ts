import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { claimDue, complete, enqueue, type QueuedJob } from "../../src/jobs/queue.ts";
import { createJobs, type Jobs, type QueueWork } from "../../src/jobs/runner.ts";
import { createId } from "../../src/lib/id.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
const started: Jobs[] = [];
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
beforeEach(async () => {
  await database`delete from jobs`;
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((jobs) => jobs.stop(Date.now() + 1_000)));
});
afterAll(() => database.end({ timeout: 1 }));

function startInstance(work: QueueWork, concurrency = 2): Jobs {
  const jobs = createJobs({ database, log: silentLog, instanceId: createId() });
  jobs.queue("letters", work, { concurrency });
  jobs.start();
  started.push(jobs);
  return jobs;
}
const claim = (owner: string, rows = 10, leaseMs = 10_000) => claimDue(database, "letters", owner, { leaseMs, rows });
const countJobs = async () => (await database`select 1 from jobs where queue = 'letters'`).length;
const keysOf = (jobs: QueuedJob[]) => jobs.map(({ key }) => key).sort();
async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const endsAtMs = Date.now() + 5_000; !(await condition()); await Bun.sleep(5))
    if (Date.now() > endsAtMs) throw new Error("Timed out after 5 s.");
}

describe("a queued job", () => {
  test("runs once on one of several instances, and is then deleted", async () => {
    const keys = Array.from({ length: 40 }, (_, n) => `letter ${n}`);
    const done: string[] = [];
    let running = 0;
    let mostRunning = 0;
    const work = async (key: string) => {
      running += 1;
      mostRunning = Math.max(mostRunning, running);
      await Bun.sleep(2);
      running -= 1;
      done.push(key);
    };
    const instances = [startInstance(work), startInstance(work)];
    await enqueue(database, "letters", keys);
    for (const jobs of instances) jobs.nudge("letters");
    await until(async () => (await countJobs()) === 0);
    expect(done.sort()).toEqual([...keys].sort());
    // Two slots on each of two instances, all of them used.
    expect(mostRunning).toBeGreaterThan(1);
    expect(mostRunning).toBeLessThanOrEqual(4);
  });

  test("is queued only if its transaction commits, and once per key", async () => {
    const undone = database.begin(async (sql) => {
      await enqueue(sql, "letters", ["a"]);
      throw new Error("undone");
    });
    expect(undone).rejects.toThrow("undone");
    await undone.catch(() => {});
    expect(await countJobs()).toBe(0);
    await Promise.all([enqueue(database, "letters", ["a", "b"]), enqueue(database, "letters", ["b", "a"])]);
    expect(await countJobs()).toBe(2);
  });

  test("is retried later after a failure, and stores the error", async () => {
    let attempts = 0;
    const jobs = startInstance(async () => {
      attempts += 1;
      if (attempts === 1) throw new Error("the mail server is down");
    });
    await enqueue(database, "letters", ["a"]);
    jobs.nudge("letters");
    await until(() => attempts === 1);
    await until(
      async () => (await database`select 1 from jobs where error like '%the mail server is down'`).length === 1,
    );
    const [row] = await database<{ attempts: number; waits: number }[]>`
      select attempts, extract(epoch from lease_until - now())::float8 as waits from jobs where queue = 'letters'`;
    expect(row?.attempts).toBe(1);
    expect(row?.waits).toBeGreaterThan(0.2);
    await until(async () => (await countJobs()) === 0);
    expect(attempts).toBe(2);
  });

  test("of a dead instance moves to another one after the lease, and the dead instance's results are ignored", async () => {
    const [dead, successor] = [createId(), createId()];
    await enqueue(database, "letters", ["a", "b"]);
    const [lost] = await claim(dead, 1, 50);
    if (!lost) throw new Error("Nothing was claimed.");
    expect(keysOf(await claim(successor))).toEqual([lost.key === "a" ? "b" : "a"]);
    await Bun.sleep(60);
    const [taken] = await claim(successor);
    expect(taken).toMatchObject({ key: lost.key, attempts: 2, fence: lost.fence + 1 });
    await complete(database, dead, lost);
    expect(await countJobs()).toBe(2);
    if (taken) await complete(database, successor, taken);
    expect(await countJobs()).toBe(1);
  });

  test("that is locked elsewhere is skipped", async () => {
    await enqueue(database, "letters", ["a", "b", "c"]);
    await database.begin(async (sql) => {
      await sql`select 1 from jobs where key = 'b' for update`;
      expect(keysOf(await claim(createId()))).toEqual(["a", "c"]);
    });
  });

  test("that is running when its instance stops is aborted, and moves to another instance at once", async () => {
    const begun = Promise.withResolvers<void>();
    const jobs = startInstance(async (_key, signal) => {
      begun.resolve();
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      signal.throwIfAborted();
    });
    await enqueue(database, "letters", ["a"]);
    jobs.nudge("letters");
    await begun.promise;
    expect(await claim(createId())).toEqual([]);
    await jobs.stop(Date.now() + 1_000);
    expect(keysOf(await claim(createId()))).toEqual(["a"]);
  });

  test("that lost its lease is aborted", async () => {
    const begun = Promise.withResolvers<void>();
    const lost = Promise.withResolvers<void>();
    const jobs = startInstance(async (_key, signal) => {
      begun.resolve();
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      lost.resolve();
    });
    await enqueue(database, "letters", ["a"]);
    jobs.nudge("letters");
    await begun.promise;
    await database`update jobs set owner = ${createId()}, fence = fence + 1 where queue = 'letters'`;
    await lost.promise;
    expect(await countJobs()).toBe(1);
  });

  test("whose lease expires while it runs is not started a second time by the same instance", async () => {
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
    await until(() => running === 1);
    const [before] = await database<{ fence: number }[]>`select fence from jobs where queue = 'letters'`;
    await database`update jobs set lease_until = now() - interval '1 s' where queue = 'letters'`;
    jobs.nudge("letters");
    const fenceOf = async () =>
      (await database<{ fence: number }[]>`select fence from jobs where queue = 'letters'`)[0]?.fence;
    await until(async () => (await fenceOf()) === (before?.fence ?? 0) + 1);
    await Bun.sleep(50);
    expect({ running, isLost: signals[0]?.aborted }).toEqual({ running: 1, isLost: false });
    // It is held under the new claim, so its result is stored.
    resume.resolve();
    await until(async () => (await countJobs()) === 0);
  });
});
