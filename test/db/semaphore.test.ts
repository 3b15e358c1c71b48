import { expect, test } from "bun:test";
import { createKeyedQueue, createSemaphore } from "../../src/db/semaphore.ts";

const never = () => false;

test("work of a key runs one after the other, in order; of other keys at the same time", async () => {
  const turns = createKeyedQueue(10);
  const order: string[] = [];
  const work = (name: string, ms: number) => async () => {
    order.push(`${name} begins`);
    await Bun.sleep(ms);
    order.push(`${name} ends`);
  };
  await Promise.all([
    turns.run("a", work("a1", 30), never),
    turns.run("a", work("a2", 0), never),
    turns.run("b", work("b1", 5), never),
  ]);
  expect(order).toEqual(["a1 begins", "b1 begins", "b1 ends", "a1 ends", "a2 begins", "a2 ends"]);
});

test("work that fails lets the next one begin, which is told if there was a lock, until one succeeds", async () => {
  const turns = createKeyedQueue(10);
  const told: boolean[] = [];
  const run = (outcome: Error | number, isLock = never) =>
    turns.run(
      "a",
      async (wasLocked) => {
        told.push(wasLocked);
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
  expect(told).toEqual([false, false, false, true, true, false]);
  await run(failed, isLock).catch(() => {});
  await run(4);
  expect(told.slice(-2)).toEqual([false, false]);
});

test("more than may wait are refused", async () => {
  const places = createSemaphore(1, { waitingMax: 2 });
  const { promise, resolve } = Promise.withResolvers<void>();
  const held = Array.from({ length: 3 }, () => places.run(() => promise));
  expect(places.run(async () => {})).rejects.toMatchObject({ code: "overloaded" });
  resolve();
  await Promise.all(held);
  expect(places.isIdle()).toBe(true);
});
