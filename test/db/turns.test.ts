import { expect, test } from "bun:test";
import { createPlaces, createTurns } from "../../src/db/turns.ts";

const never = () => false;

test("work of a key runs one after the other, in order; of other keys at the same time", async () => {
  const turns = createTurns(10);
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

test("work that fails lets the next one begin; if that is hopeless, those who wait fail as well", async () => {
  const turns = createTurns(10);
  const fail = async () => {
    await Bun.sleep(5);
    throw new Error("failed");
  };
  const isHopeless = () => true;
  expect(await Promise.allSettled([turns.run("a", fail, never), turns.run("a", async () => 1, never)])).toMatchObject([
    { status: "rejected" },
    { status: "fulfilled", value: 1 },
  ]);
  const all = await Promise.allSettled([
    turns.run("a", fail, isHopeless),
    turns.run("a", async () => 1, never),
    turns.run("b", async () => 2, never),
  ]);
  expect(all.map(({ status }) => status)).toEqual(["rejected", "rejected", "fulfilled"]);
  expect(await turns.run("a", async () => 3, never)).toBe(3);
});

test("more than may wait are refused", async () => {
  const places = createPlaces(1, 2);
  const { promise, resolve } = Promise.withResolvers<void>();
  const held = Array.from({ length: 3 }, () => places.run(() => promise));
  expect(places.run(async () => {})).rejects.toMatchObject({ code: "overloaded" });
  resolve();
  await Promise.all(held);
  expect(places.isIdle()).toBe(true);
});
