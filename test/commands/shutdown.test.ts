import { expect, test } from "bun:test";
import { stopInOrder } from "../../src/commands/shutdown.ts";
import { silentLog as log } from "../support/log.ts";

const never = () => new Promise<void>(() => {});
const calm = () => new AbortController().signal;

test("parts stop after those they name, with one deadline for all", async () => {
  const seen: string[] = [];
  const deadlines: number[] = [];
  const part = (name: string, after: string[] = []) => ({
    name,
    after,
    async stop(deadlineMs: number) {
      deadlines.push(deadlineMs - Date.now());
      seen.push(`${name} begins`);
      await Bun.sleep(20);
      seen.push(`${name} ends`);
    },
  });
  const parts = [part("a"), part("b", ["a"]), part("beside a"), part("last", ["b", "beside a"])];
  await stopInOrder(parts, { log, timeoutMs: 1_000, hurry: calm() });
  const all = ["a", "beside a", "b", "last"].flatMap((name) => [`${name} begins`, `${name} ends`]);
  expect([...seen].sort()).toEqual(all.sort());
  const isBefore = (one: string, other: string) => seen.indexOf(one) < seen.indexOf(other);
  expect(isBefore("a ends", "b begins")).toBe(true);
  expect(isBefore("beside a begins", "a ends")).toBe(true);
  expect(seen.slice(-2)).toEqual(["last begins", "last ends"]);
  const [first = 0, last = 0] = [deadlines[0], deadlines.at(-1)];
  expect(first).toBeGreaterThan(900);
  expect(first - last).toBeGreaterThanOrEqual(30);
});

test("a part that fails or hangs does not keep the next from its turn", async () => {
  let hasStopped = false;
  const startedAt = performance.now();
  const parts = [
    { name: "fails", stop: () => Promise.reject(new Error("no")) },
    { name: "hangs", after: ["fails"], stop: never },
    {
      name: "last",
      after: ["hangs"],
      stop: async () => {
        hasStopped = true;
      },
    },
  ];
  await stopInOrder(parts, { log, timeoutMs: 50, hurry: calm() });
  expect(hasStopped).toBe(true);
  expect(performance.now() - startedAt).toBeLessThan(1_000);
});

test("in a hurry, nothing is waited for, and every part has been told", async () => {
  const hurry = new AbortController();
  const told: string[] = [];
  const part = (name: string, after: string[] = []) => ({
    name,
    after,
    stop() {
      told.push(name);
      return never();
    },
  });
  const startedAt = performance.now();
  setTimeout(() => hurry.abort(), 30);
  await stopInOrder([part("a"), part("b", ["a"]), part("c", ["b"])], { log, timeoutMs: 60_000, hurry: hurry.signal });
  expect(told).toEqual(["a", "b", "c"]);
  expect(performance.now() - startedAt).toBeLessThan(1_000);
});
