import { expect, test } from "bun:test";
import { createKeyedQueue, createSemaphore } from "../../src/db/semaphore.ts";

const never = () => false;

test("work with the same key runs one after another, in order; with different keys concurrently", async () => {
  const queue = createKeyedQueue(10);
  const order: string[] = [];
  const work = (name: string, ms: number) => async () => {
    order.push(`${name} begins`);
    await Bun.sleep(ms);
    order.push(`${name} ends`);
  };
  await Promise.all([
    queue.run("a", work("a1", 30), never),
    queue.run("a", work("a2", 0), never),
    queue.run("b", work("b1", 5), never),
  ]);
  expect(order).toEqual(["a1 begins", "b1 begins", "b1 ends", "a1 ends", "a2 begins", "a2 ends"]);
});

test("after a failure, the next one runs, and learns if the failure was a lock, until one succeeds", async () => {
  const queue = createKeyedQueue(10);
  const wasLockedSeen: boolean[] = [];
  const run = (outcome: Error | number, isLock = never) =>
    queue.run(
      "a",
      async (wasLocked) => {
        wasLockedSeen.push(wasLocked);
        await Bun.sleep(5);
        if (outcome instanceof Error) throw outcome;
        return outcome;
      },
      isLock,
    );
  const isLock = () => true;
  const failed = new Error("failed");
  const all = await Promise.allSettled([run(failed), run(1), run(failed, isLock), run(failed, isLock), run(2), run(3)]);
  expect(all.map(({ status }) => (status === "fulfilled" ? "ok" : "no"))).toEqual(["no", "ok", "no", "no", "ok", "ok"]);
  expect(wasLockedSeen).toEqual([false, false, false, true, true, false]);
  await run(failed, isLock).catch(() => {});
  await run(4);
  expect(wasLockedSeen.slice(-2)).toEqual([false, false]);
});

test("rejects more waiters than allowed", async () => {
  const semaphore = createSemaphore(1, { waitingMax: 2 });
  const { promise, resolve } = Promise.withResolvers<void>();
  const held = Array.from({ length: 3 }, () => semaphore.run(() => promise));
  expect(semaphore.run(async () => {})).rejects.toMatchObject({ code: "overloaded" });
  resolve();
  await Promise.all(held);
  expect(semaphore.isIdle()).toBe(true);
});
