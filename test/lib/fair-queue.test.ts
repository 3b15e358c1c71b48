import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { FairQueue, type JobKey, type QueuedJob } from "../../src/lib/fair-queue.ts";

const roomy = { jobsMax: 1_000, jobsPerSourceMax: 500 };
const create = (bounds = roomy) => new FairQueue<string>(bounds);

/** Adds `times` jobs of an owner, named after them: `a/x 0`, `a/x 1` … */
function addMany(queue: FairQueue<string>, source: string, owner: string, times: number): QueuedJob[] {
  return Array.from({ length: times }, (_, n) => queue.add({ source, owner }, `${source}/${owner} ${n}`));
}
function takeAll(queue: FairQueue<string>): string[] {
  const taken: string[] = [];
  for (let job = queue.take(); job !== undefined; job = queue.take()) taken.push(job);
  return taken;
}

describe("turns", () => {
  test("go round the sources, and round the owners of each", () => {
    const queue = create();
    addMany(queue, "a", "x", 3);
    addMany(queue, "a", "y", 1);
    addMany(queue, "b", "x", 2);
    expect(takeAll(queue)).toEqual(["a/x 0", "b/x 0", "a/y 0", "b/x 1", "a/x 1", "a/x 2"]);
    expect(queue.size).toBe(0);
  });

  test("come to a new source after one job of each other, however many jobs those have", () => {
    const queue = create();
    addMany(queue, "flood", "x", 400);
    addMany(queue, "other", "x", 50);
    for (let n = 0; n < 7; n += 1) queue.take();
    addMany(queue, "new", "x", 1);
    expect([queue.take(), queue.take(), queue.take()]).toContain("new/x 0");
  });

  test("pass over a job that has left, and leaving twice changes nothing", () => {
    const queue = create();
    const [first, second] = addMany(queue, "a", "x", 2);
    addMany(queue, "b", "x", 1);
    expect([first?.leave(), first?.leave(), queue.size]).toEqual([true, false, 2]);
    expect(takeAll(queue)).toEqual(["a/x 1", "b/x 0"]);
    expect(second?.leave()).toBe(false);
    expect(queue.size).toBe(0);
  });
});

describe("room", () => {
  /** How many jobs find room. */
  function fill(queue: FairQueue<string>, createKey: (n: number) => JobKey): number {
    for (let n = 0; n < 10_000; n += 1) {
      const key = createKey(n);
      if (queue.findRefusal(key)) return n;
      queue.add(key, "job");
    }
    throw new Error("There is room for everything.");
  }

  test("one source has half of it, and one owner half of what a source may have", () => {
    const queue = create({ jobsMax: 200, jobsPerSourceMax: 100 });
    expect(fill(queue, () => ({ source: "a", owner: "x" }))).toBe(50);
    expect(queue.findRefusal({ source: "a", owner: "x" })).toBe("source");
    expect(queue.findRefusal({ source: "a", owner: "y" })).toBeNull();
    expect(fill(queue, (n) => ({ source: "a", owner: `${n}` }))).toBe(50);
    expect(queue.findRefusal({ source: "a", owner: "new" })).toBe("source");
    expect(queue.findRefusal({ source: "b", owner: "x" })).toBeNull();
  });

  test("few sources cannot fill it", () => {
    const queue = create({ jobsMax: 200, jobsPerSourceMax: 100 });
    for (const source of ["a", "b", "c", "d"]) fill(queue, (n) => ({ source, owner: `${n}` }));
    expect(queue.size).toBeLessThan(200);
    expect(queue.findRefusal({ source: "e", owner: "x" })).toBeNull();
  });

  test("as many sources as it has places can", () => {
    const queue = create({ jobsMax: 200, jobsPerSourceMax: 100 });
    expect(fill(queue, (n) => ({ source: `${n}`, owner: "x" }))).toBe(200);
    expect(queue.findRefusal({ source: "new", owner: "x" })).toBe("queue");
    queue.take();
    expect(queue.findRefusal({ source: "new", owner: "x" })).toBeNull();
  });
});

const steps = fc.array(
  fc.oneof(
    fc.record({ source: fc.constantFrom("a", "b", "c", "d", "e"), owner: fc.constantFrom("x", "y", "z") }),
    fc.record({ leaves: fc.nat() }),
    fc.constant("take" as const),
  ),
  { minLength: 1, maxLength: 300 },
);

test("whatever comes, leaves and is taken: bounded, an owner's jobs in order, and no source waits longer than a round", () => {
  const bounds = { jobsMax: 20, jobsPerSourceMax: 10 };
  fc.assert(
    fc.property(steps, (all) => {
      const queue = new FairQueue<number>(bounds);
      let waiting: (JobKey & { id: number; queued: QueuedJob })[] = [];
      /** Turns of others since the source came or had one. */
      const passed = new Map<string, number>();
      const countOf = (source: string) => waiting.filter((job) => job.source === source).length;

      function take(): void {
        const id = queue.take();
        const job = waiting.find((other) => other.id === id);
        expect(job !== undefined).toBe(waiting.length > 0);
        if (!job) return;
        const first = waiting.find(({ source, owner }) => source === job.source && owner === job.owner);
        expect(job).toBe(first as typeof job);
        waiting = waiting.filter((other) => other !== job);
        for (const source of passed.keys())
          passed.set(source, source === job.source ? 0 : (passed.get(source) ?? 0) + 1);
      }

      for (const [id, step] of all.entries()) {
        if (step === "take") take();
        else if ("leaves" in step) {
          const [gone] = waiting.splice(step.leaves % (waiting.length + 1), 1);
          expect(gone?.queued.leave()).not.toBe(false);
        } else if (queue.findRefusal(step) === null) {
          if (countOf(step.source) === 0) passed.set(step.source, 0);
          waiting.push({ ...step, id, queued: queue.add(step, id) });
        }
        for (const source of passed.keys()) {
          if (countOf(source) === 0) passed.delete(source);
          expect(passed.get(source) ?? 0).toBeLessThan(5);
          expect(countOf(source)).toBeLessThanOrEqual(bounds.jobsPerSourceMax);
        }
        expect(queue.size).toBe(waiting.length);
        expect(queue.size).toBeLessThanOrEqual(bounds.jobsMax);
      }
    }),
  );
});
