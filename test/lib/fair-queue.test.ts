import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { FairQueue, type JobKey, type WaitingJob } from "../../src/lib/fair-queue.ts";

const roomy = { jobsMax: 1_000, jobsPerSourceMax: 500 };
const create = (bounds = roomy) => new FairQueue<string>(bounds);

/** Adds `times` jobs of an owner, named after the owner: `a/x 0`, `a/x 1` … */
function addMany(queue: FairQueue<string>, source: string, owner: string, times: number): WaitingJob[] {
  return Array.from({ length: times }, (_, n) => queue.add({ source, owner }, `${source}/${owner} ${n}`));
}
function takeAll(queue: FairQueue<string>): string[] {
  const taken: string[] = [];
  for (let job = queue.take(); job !== undefined; job = queue.take()) taken.push(job);
  return taken;
}

describe("order", () => {
  test("is round-robin over sources, and over the owners of each source", () => {
    const queue = create();
    addMany(queue, "a", "x", 3);
    addMany(queue, "a", "y", 1);
    addMany(queue, "b", "x", 2);
    expect(takeAll(queue)).toEqual(["a/x 0", "b/x 0", "a/y 0", "b/x 1", "a/x 1", "a/x 2"]);
    expect(queue.size).toBe(0);
  });

  test("serves a new source after one job of each other source, however many jobs those have", () => {
    const queue = create();
    addMany(queue, "flood", "x", 400);
    addMany(queue, "other", "x", 50);
    for (let n = 0; n < 7; n += 1) queue.take();
    addMany(queue, "new", "x", 1);
    expect([queue.take(), queue.take(), queue.take()]).toContain("new/x 0");
  });

  test("skips a job that was removed, and removing it twice changes nothing", () => {
    const queue = create();
    const [first, second] = addMany(queue, "a", "x", 2);
    addMany(queue, "b", "x", 1);
    expect([first?.leave(), first?.leave(), queue.size]).toEqual([true, false, 2]);
    expect(takeAll(queue)).toEqual(["a/x 1", "b/x 0"]);
    expect(second?.leave()).toBe(false);
    expect(queue.size).toBe(0);
  });
});

describe("capacity", () => {
  /** How many jobs are accepted. */
  function fill(queue: FairQueue<string>, createKey: (n: number) => JobKey): number {
    for (let n = 0; n < 10_000; n += 1) {
      const key = createKey(n);
      if (queue.findRefusal(key)) return n;
      queue.add(key, "job");
    }
    throw new Error("The queue never fills up.");
  }

  test("is limited to half for one source, and to half of that for one owner", () => {
    const queue = create({ jobsMax: 200, jobsPerSourceMax: 100 });
    expect(fill(queue, () => ({ source: "a", owner: "x" }))).toBe(50);
    expect(queue.findRefusal({ source: "a", owner: "x" })).toBe("source");
    expect(queue.findRefusal({ source: "a", owner: "y" })).toBeNull();
    expect(fill(queue, (n) => ({ source: "a", owner: `${n}` }))).toBe(50);
    expect(queue.findRefusal({ source: "a", owner: "new" })).toBe("source");
    expect(queue.findRefusal({ source: "b", owner: "x" })).toBeNull();
  });

  test("can't be filled by a few sources", () => {
    const queue = create({ jobsMax: 200, jobsPerSourceMax: 100 });
    for (const source of ["a", "b", "c", "d"]) fill(queue, (n) => ({ source, owner: `${n}` }));
    expect(queue.size).toBeLessThan(200);
    expect(queue.findRefusal({ source: "e", owner: "x" })).toBeNull();
  });

  test("can be filled by as many sources as it has slots", () => {
    const queue = create({ jobsMax: 200, jobsPerSourceMax: 100 });
    expect(fill(queue, (n) => ({ source: `${n}`, owner: "x" }))).toBe(200);
    expect(queue.findRefusal({ source: "new", owner: "x" })).toBe("queue");
    queue.take();
    expect(queue.findRefusal({ source: "new", owner: "x" })).toBeNull();
  });
});

const sources = ["a", "b", "c", "d", "e"];
const owners = ["x", "y", "z"];
const steps = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.record({ source: fc.constantFrom(...sources), owner: fc.constantFrom(...owners) }) },
    { weight: 3, arbitrary: fc.constant("take" as const) },
    { weight: 1, arbitrary: fc.record({ leaves: fc.nat() }) },
  ),
  { minLength: 100, maxLength: 400 },
);

/** How often other members of its group were served since each arrived or was last served. */
class Passed {
  readonly #turns = new Map<string, number>();
  come(name: string): void {
    if (!this.#turns.has(name)) this.#turns.set(name, 0);
  }
  had(name: string): void {
    for (const other of this.#turns.keys()) this.#turns.set(other, (this.#turns.get(other) ?? 0) + 1);
    this.#turns.set(name, 0);
  }
  keep(names: string[]): void {
    for (const name of this.#turns.keys()) if (!names.includes(name)) this.#turns.delete(name);
  }
  get longest(): number {
    return Math.max(0, ...this.#turns.values());
  }
}

test("for any sequence of add, remove and take: bounded, in order per owner, and no one is skipped twice", () => {
  const bounds = { jobsMax: 60, jobsPerSourceMax: 30 };
  fc.assert(
    fc.property(steps, (all) => {
      const queue = new FairQueue<number>(bounds);
      let waiting: (JobKey & { id: number; queued: WaitingJob })[] = [];
      const passedSources = new Passed();
      const passedOwners = new Map(sources.map((source) => [source, new Passed()]));
      const jobsOf = (source: string) => waiting.filter((job) => job.source === source);

      function take(): void {
        const id = queue.take();
        const job = waiting.find((other) => other.id === id);
        expect(job !== undefined).toBe(waiting.length > 0);
        if (!job) return;
        expect(job.id).toBe(jobsOf(job.source).find(({ owner }) => owner === job.owner)?.id as number);
        waiting = waiting.filter((other) => other !== job);
        passedSources.had(job.source);
        passedOwners.get(job.source)?.had(job.owner);
      }

      for (const [id, step] of all.entries()) {
        if (step === "take") take();
        else if ("leaves" in step) {
          const [gone] = waiting.splice(step.leaves % (waiting.length + 1), 1);
          expect(gone?.queued.leave()).not.toBe(false);
        } else if (queue.findRefusal(step) === null) {
          waiting.push({ ...step, id, queued: queue.add(step, id) });
          passedSources.come(step.source);
          passedOwners.get(step.source)?.come(step.owner);
        }
        passedSources.keep(waiting.map(({ source }) => source));
        expect(passedSources.longest).toBeLessThan(sources.length);
        for (const [source, passed] of passedOwners) {
          passed.keep(jobsOf(source).map(({ owner }) => owner));
          expect(passed.longest).toBeLessThan(owners.length);
          expect(jobsOf(source).length).toBeLessThanOrEqual(bounds.jobsPerSourceMax);
        }
        expect(queue.size).toBe(waiting.length);
        expect(queue.size).toBeLessThanOrEqual(bounds.jobsMax);
      }
    }),
  );
});
