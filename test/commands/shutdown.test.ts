import { expect, test } from "bun:test";
import { stopInOrder } from "../../src/commands/shutdown.ts";
import { silentLog as log } from "../support/log.ts";

const never = () => new Promise<void>(() => {});
const calm = () => new AbortController().signal;

test("parts stop one after the other, with one deadline for all", async () => {
  const seen: string[] = [];
  const deadlines: number[] = [];
  const part = (name: string) => ({
    name,
    async stop(deadlineMs: number) {
      deadlines.push(deadlineMs - Date.now());
      seen.push(`${name} begins`);
      await Bun.sleep(20);
      seen.push(`${name} ends`);
    },
  });
  await stopInOrder([part("a"), part("b")], { log, timeoutMs: 1_000, hurry: calm() });
  expect(seen).toEqual(["a begins", "a ends", "b begins", "b ends"]);
  const [first = 0, second = 0] = deadlines;
  expect(first).toBeGreaterThan(900);
  expect(first - second).toBeGreaterThanOrEqual(10);
});

test("a part that fails or hangs does not keep the next from its turn", async () => {
  let hasStopped = false;
  const startedAt = performance.now();
  const parts = [
    { name: "fails", stop: () => Promise.reject(new Error("no")) },
    { name: "hangs", stop: never },
    {
      name: "last",
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
  const part = (name: string) => ({
    name,
    stop() {
      told.push(name);
      return never();
    },
  });
  const startedAt = performance.now();
  setTimeout(() => hurry.abort(), 30);
  await stopInOrder([part("a"), part("b"), part("c")], { log, timeoutMs: 60_000, hurry: hurry.signal });
  expect(told).toEqual(["a", "b", "c"]);
  expect(performance.now() - startedAt).toBeLessThan(1_000);
});
