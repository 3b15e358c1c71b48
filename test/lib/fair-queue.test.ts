import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { FairQueue, type JobKey, type WaitingJob } from "../../src/lib/fair-queue.ts";

const largeLimits = { jobsMax: 1_000, jobsPerSourceMax: 500 };
const createQueue = (limits = largeLimits) => new FairQueue<string>(limits);

/** Adds jobs named after their source and owner: `a/x 0`, `a/x 1` … */
function addJobs(queue: FairQueue<string>, source: string, owner: string, count: number): WaitingJob[] {
  return Array.from({ length: count }, (_, n) => queue.add({ source, owner }, `${source}/${owner} ${n}`));
}
function takeAllJobs(queue: FairQueue<string>): string[] {
  const jobs: string[] = [];
  for (let job = queue.shift(); job !== undefined; job = queue.shift()) jobs.push(job);
  return jobs;
}

describe("the order", () => {
  test("is round-robin over sources, and over the owners of each source", () => {
    const queue = createQueue();
    addJobs(queue, "a", "x", 3);
    addJobs(queue, "a", "y", 1);
    addJobs(queue, "b", "x", 2);
    expect(takeAllJobs(queue)).toEqual(["a/x 0", "b/x 0", "a/y 0", "b/x 1", "a/x 1", "a/x 2"]);
    expect(queue.size).toBe(0);
  });

  test("puts a new source's first job after one job from each other source, even if the other sources have many jobs", () => {
    const queue = createQueue();
    addJobs(queue, "flood", "x", 400);
    addJobs(queue, "other", "x", 50);
    for (let n = 0; n < 7; n += 1) queue.shift();
    addJobs(queue, "new", "x", 1);
    expect([queue.shift(), queue.shift(), queue.shift()]).toContain("new/x 0");
  });

  test("skips a job that was removed", () => {
    const queue = createQueue();
    const [removedJob, takenJob] = addJobs(queue, "a", "x", 2);
    addJobs(queue, "b", "x", 1);
    expect([removedJob?.remove(), removedJob?.remove(), queue.size]).toEqual([true, false, 2]);
    expect(takeAllJobs(queue)).toEqual(["a/x 1", "b/x 0"]);
    expect(takenJob?.remove()).toBe(false);
    expect(queue.size).toBe(0);
  });
});

describe("the capacity", () => {
  /** Adds jobs until one is rejected. @returns the number of accepted jobs. */
  function fillQueue(queue: FairQueue<string>, createKey: (n: number) => JobKey): number {
    for (let n = 0; n < 10_000; n += 1) {
      const key = createKey(n);
      if (queue.findFullPart(key)) return n;
      queue.add(key, "job");
    }
    throw new Error("The queue never fills up.");
  }

  test("available to one source is half of the total, and available to one owner is a quarter", () => {
    const queue = createQueue({ jobsMax: 200, jobsPerSourceMax: 100 });
    expect(fillQueue(queue, () => ({ source: "a", owner: "x" }))).toBe(50);
    expect(queue.findFullPart({ source: "a", owner: "x" })).toBe("source");
    expect(queue.findFullPart({ source: "a", owner: "y" })).toBeNull();
    expect(fillQueue(queue, (n) => ({ source: "a", owner: `${n}` }))).toBe(50);
    expect(queue.findFullPart({ source: "a", owner: "new" })).toBe("source");
    expect(queue.findFullPart({ source: "b", owner: "x" })).toBeNull();
  });

  test("can't be filled by a few sources", () => {
    const queue = createQueue({ jobsMax: 200, jobsPerSourceMax: 100 });
    for (const source of ["a", "b", "c", "d"]) fillQueue(queue, (n) => ({ source, owner: `${n}` }));
    expect(queue.size).toBeLessThan(200);
    expect(queue.findFullPart({ source: "e", owner: "x" })).toBeNull();
  });

  test("can be filled by as many sources as it has slots", () => {
    const queue = createQueue({ jobsMax: 200, jobsPerSourceMax: 100 });
    expect(fillQueue(queue, (n) => ({ source: `${n}`, owner: "x" }))).toBe(200);
    expect(queue.findFullPart({ source: "new", owner: "x" })).toBe("queue");
    queue.shift();
    expect(queue.findFullPart({ source: "new", owner: "x" })).toBeNull();
  });
});

const sources = ["a", "b", "c", "d", "e"];
const owners = ["x", "y", "z"];
const stepsArbitrary = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.record({ source: fc.constantFrom(...sources), owner: fc.constantFrom(...owners) }) },
    { weight: 3, arbitrary: fc.constant("take" as const) },
    { weight: 1, arbitrary: fc.record({ removedIndex: fc.nat() }) },
  ),
  { minLength: 100, maxLength: 400 },
);

/** Counts, for each name, how often other names were served since that name was added or last served. */
class WaitCounter {
  readonly #counts = new Map<string, number>();
  add(name: string): void {
    if (!this.#counts.has(name)) this.#counts.set(name, 0);
  }
  serve(name: string): void {
    for (const otherName of this.#counts.keys()) this.#counts.set(otherName, (this.#counts.get(otherName) ?? 0) + 1);
    this.#counts.set(name, 0);
  }
  retain(names: string[]): void {
    for (const name of this.#counts.keys()) if (!names.includes(name)) this.#counts.delete(name);
  }
  get max(): number {
    return Math.max(0, ...this.#counts.values());
  }
}

test("for any sequence of added, removed and taken jobs, the queue is fair and stays within its limits", () => {
  const limits = { jobsMax: 60, jobsPerSourceMax: 30 };
  fc.assert(
    fc.property(stepsArbitrary, (steps) => {
      const queue = new FairQueue<number>(limits);
      let waitingJobs: (JobKey & { id: number; queued: WaitingJob })[] = [];
      const sourceWaits = new WaitCounter();
      const ownerWaits = new Map(sources.map((source) => [source, new WaitCounter()]));
      const listJobs = (source: string) => waitingJobs.filter((job) => job.source === source);

      function takeJob(): void {
        const id = queue.shift();
        const job = waitingJobs.find((other) => other.id === id);
        expect(job !== undefined).toBe(waitingJobs.length > 0);
        if (!job) return;
        expect(job.id).toBe(listJobs(job.source).find(({ owner }) => owner === job.owner)?.id as number);
        waitingJobs = waitingJobs.filter((other) => other !== job);
        sourceWaits.serve(job.source);
        ownerWaits.get(job.source)?.serve(job.owner);
      }

      for (const [id, step] of steps.entries()) {
        if (step === "take") takeJob();
        else if ("removedIndex" in step) {
          const [removed] = waitingJobs.splice(step.removedIndex % (waitingJobs.length + 1), 1);
          expect(removed?.queued.remove()).not.toBe(false);
        } else if (queue.findFullPart(step) === null) {
          waitingJobs.push({ ...step, id, queued: queue.add(step, id) });
          sourceWaits.add(step.source);
          ownerWaits.get(step.source)?.add(step.owner);
        }
        sourceWaits.retain(waitingJobs.map(({ source }) => source));
        expect(sourceWaits.max).toBeLessThan(sources.length);
        for (const [source, waits] of ownerWaits) {
          waits.retain(listJobs(source).map(({ owner }) => owner));
          expect(waits.max).toBeLessThan(owners.length);
          expect(listJobs(source).length).toBeLessThanOrEqual(limits.jobsPerSourceMax);
        }
        expect(queue.size).toBe(waitingJobs.length);
        expect(queue.size).toBeLessThanOrEqual(limits.jobsMax);
      }
    }),
  );
});
