import { expect, test } from "bun:test";
import { createKeyedQueue, createSemaphore } from "../../src/db/semaphore.ts";

const neverLock = () => false;

test("tasks with the same key run one at a time, in order, and tasks with different keys run concurrently", async () => {
  const queue = createKeyedQueue(10);
  const steps: string[] = [];
  const createTask = (name: string, ms: number) => async () => {
    steps.push(`${name} starts`);
    await Bun.sleep(ms);
    steps.push(`${name} finishes`);
  };
  await Promise.all([
    queue.run("a", createTask("a1", 30), neverLock),
    queue.run("a", createTask("a2", 0), neverLock),
    queue.run("b", createTask("b1", 5), neverLock),
  ]);
  expect(steps).toEqual(["a1 starts", "b1 starts", "b1 finishes", "a1 finishes", "a2 starts", "a2 finishes"]);
});

test("after a task fails, the next task is told whether a lock caused the failure", async () => {
  const queue = createKeyedQueue(10);
  const wasLockedValues: boolean[] = [];
  const runTask = (outcome: Error | number, isLock = neverLock) =>
    queue.run(
      "a",
      async (wasLocked) => {
        wasLockedValues.push(wasLocked);
        await Bun.sleep(5);
        if (outcome instanceof Error) throw outcome;
        return outcome;
      },
      isLock,
    );
  const alwaysLock = () => true;
  const failure = new Error("failed");
  const results = await Promise.allSettled([
    runTask(failure),
    runTask(1),
    runTask(failure, alwaysLock),
    runTask(failure, alwaysLock),
    runTask(2),
    runTask(3),
  ]);
  expect(results.map(({ status }) => (status === "fulfilled" ? "ok" : "no"))).toEqual([
    "no",
    "ok",
    "no",
    "no",
    "ok",
    "ok",
  ]);
  expect(wasLockedValues).toEqual([false, false, false, true, true, false]);
  await runTask(failure, alwaysLock).catch(() => {});
  await runTask(4);
  expect(wasLockedValues.slice(-2)).toEqual([false, false]);
});

test("a task is rejected if too many tasks are waiting", async () => {
  const semaphore = createSemaphore(1, { waitingMax: 2 });
  const { promise, resolve } = Promise.withResolvers<void>();
  const runningTasks = Array.from({ length: 3 }, () => semaphore.run(() => promise));
  expect(semaphore.run(async () => {})).rejects.toMatchObject({ code: "overloaded" });
  resolve();
  await Promise.all(runningTasks);
  expect(semaphore.isIdle()).toBe(true);
});
