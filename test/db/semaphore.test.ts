import { expect, test } from "bun:test";
import { createKeyedQueue, createSemaphore } from "../../src/db/semaphore.ts";

const isNeverLock = () => false;

test("tasks with the same key run one at a time, in order; tasks with different keys run concurrently", async () => {
  const queue = createKeyedQueue(10);
  const order: string[] = [];
  const work = (name: string, ms: number) => async () => {
    order.push(`${name} begins`);
    await Bun.sleep(ms);
    order.push(`${name} ends`);
  };
  await Promise.all([
    queue.run("a", work("a1", 30), isNeverLock),
    queue.run("a", work("a2", 0), isNeverLock),
    queue.run("b", work("b1", 5), isNeverLock),
  ]);
  expect(order).toEqual(["a1 begins", "b1 begins", "b1 ends", "a1 ends", "a2 begins", "a2 ends"]);
});

test("after a task fails, the next task's argument says whether a lock caused the failure", async () => {
  const queue = createKeyedQueue(10);
  const wasLockedValues: boolean[] = [];
  const run = (outcome: Error | number, isLock = isNeverLock) =>
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
  const isLock = () => true;
  const failure = new Error("failed");
  const all = await Promise.allSettled([
    run(failure),
    run(1),
    run(failure, isLock),
    run(failure, isLock),
    run(2),
    run(3),
  ]);
  expect(all.map(({ status }) => (status === "fulfilled" ? "ok" : "no"))).toEqual(["no", "ok", "no", "no", "ok", "ok"]);
  expect(wasLockedValues).toEqual([false, false, false, true, true, false]);
  await run(failure, isLock).catch(() => {});
  await run(4);
  expect(wasLockedValues.slice(-2)).toEqual([false, false]);
});

test("rejects a task if too many are waiting", async () => {
  const semaphore = createSemaphore(1, { waitingMax: 2 });
  const { promise, resolve } = Promise.withResolvers<void>();
  const runs = Array.from({ length: 3 }, () => semaphore.run(() => promise));
  expect(semaphore.run(async () => {})).rejects.toMatchObject({ code: "overloaded" });
  resolve();
  await Promise.all(runs);
  expect(semaphore.isIdle()).toBe(true);
});
