import { expect, test } from "bun:test";
import { stopInOrder } from "../../src/commands/shutdown.ts";
import { silentLog as log } from "../support/log.ts";

const neverResolves = () => new Promise<void>(() => {});
const neverAborted = () => new AbortController().signal;

test("each part stops after the parts listed in its `after`, and all have the same deadline", async () => {
  const events: string[] = [];
  const deadlines: number[] = [];
  const createPart = (name: string, after: string[] = []) => ({
    name,
    after,
    async stop(deadlineMs: number) {
      deadlines.push(deadlineMs - Date.now());
      events.push(`${name} begins`);
      await Bun.sleep(20);
      events.push(`${name} ends`);
    },
  });
  const parts = [
    createPart("a"),
    createPart("b", ["a"]),
    createPart("parallel to a"),
    createPart("last", ["b", "parallel to a"]),
  ];
  await stopInOrder(parts, { log, timeoutMs: 1_000, stopNow: neverAborted() });
  const expectedEvents = ["a", "parallel to a", "b", "last"].flatMap((name) => [`${name} begins`, `${name} ends`]);
  expect([...events].sort()).toEqual(expectedEvents.sort());
  const isBefore = (one: string, other: string) => events.indexOf(one) < events.indexOf(other);
  expect(isBefore("a ends", "b begins")).toBe(true);
  expect(isBefore("parallel to a begins", "a ends")).toBe(true);
  expect(events.slice(-2)).toEqual(["last begins", "last ends"]);
  const [first = 0, last = 0] = [deadlines[0], deadlines.at(-1)];
  expect(first).toBeGreaterThan(900);
  expect(first - last).toBeGreaterThanOrEqual(30);
});

test("a part that fails or hangs doesn't block the next part", async () => {
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
  await stopInOrder(parts, { log, timeoutMs: 50, stopNow: neverAborted() });
  expect(hasStopped).toBe(true);
  expect(performance.now() - startedAt).toBeLessThan(1_000);
});

test("an immediate shutdown stops all parts without waiting for any of them", async () => {
  const stopNow = new AbortController();
  const stopped: string[] = [];
  const createPart = (name: string, after: string[] = []) => ({
    name,
    after,
    stop() {
      stopped.push(name);
      return neverResolves();
    },
  });
  const startedAt = performance.now();
  setTimeout(() => stopNow.abort(), 30);
  await stopInOrder([createPart("a"), createPart("b", ["a"]), createPart("c", ["b"])], {
    log,
    timeoutMs: 60_000,
    stopNow: stopNow.signal,
  });
  expect(stopped).toEqual(["a", "b", "c"]);
  expect(performance.now() - startedAt).toBeLessThan(1_000);
});
