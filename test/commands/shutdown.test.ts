import { expect, test } from "bun:test";
import { stopInOrder } from "../../src/commands/shutdown.ts";
import { silentLog as log } from "../support/log.ts";

const neverResolves = () => new Promise<void>(() => {});
const neverAborted = () => new AbortController().signal;

test("parts stop after their dependencies, with one deadline for all", async () => {
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
  const parts = [part("a"), part("b", ["a"]), part("parallel to a"), part("last", ["b", "parallel to a"])];
  await stopInOrder(parts, { log, timeoutMs: 1_000, hurry: neverAborted() });
  const all = ["a", "parallel to a", "b", "last"].flatMap((name) => [`${name} begins`, `${name} ends`]);
  expect([...seen].sort()).toEqual(all.sort());
  const isBefore = (one: string, other: string) => seen.indexOf(one) < seen.indexOf(other);
  expect(isBefore("a ends", "b begins")).toBe(true);
  expect(isBefore("parallel to a begins", "a ends")).toBe(true);
  expect(seen.slice(-2)).toEqual(["last begins", "last ends"]);
  const [first = 0, last = 0] = [deadlines[0], deadlines.at(-1)];
  expect(first).toBeGreaterThan(900);
  expect(first - last).toBeGreaterThanOrEqual(30);
});

test("a part that fails or hangs doesn't block the next one", async () => {
  let hasStopped = false;
  const startedAt = performance.now();
  const parts = [
    { name: "fails", stop: () => Promise.reject(new Error("no")) },
    { name: "hangs", after: ["fails"], stop: neverResolves },
    {
      name: "last",
      after: ["hangs"],
      stop: async () => {
        hasStopped = true;
      },
    },
  ];
  await stopInOrder(parts, { log, timeoutMs: 50, hurry: neverAborted() });
  expect(hasStopped).toBe(true);
  expect(performance.now() - startedAt).toBeLessThan(1_000);
});

test("in a hurry, every part is asked to stop, without waiting for any", async () => {
  const hurry = new AbortController();
  const stopped: string[] = [];
  const part = (name: string, after: string[] = []) => ({
    name,
    after,
    stop() {
      stopped.push(name);
      return neverResolves();
    },
  });
  const startedAt = performance.now();
  setTimeout(() => hurry.abort(), 30);
  await stopInOrder([part("a"), part("b", ["a"]), part("c", ["b"])], { log, timeoutMs: 60_000, hurry: hurry.signal });
  expect(stopped).toEqual(["a", "b", "c"]);
  expect(performance.now() - startedAt).toBeLessThan(1_000);
});
