import { expect, test } from "bun:test";
import { stopInOrder } from "../../src/commands/shutdown.ts";
import { silentLog as log } from "../support/log.ts";

const neverResolves = () => new Promise<void>(() => {});
const neverAborted = () => new AbortController().signal;

test("each component stops after the components in its `after` list, and all receive the same deadline", async () => {
  const events: string[] = [];
  const remainingTimesMs: number[] = [];
  const createComponent = (name: string, after: string[] = []) => ({
    name,
    after,
    async stop(deadlineMs: number) {
      remainingTimesMs.push(deadlineMs - Date.now());
      events.push(`${name} begins`);
      await Bun.sleep(20);
      events.push(`${name} ends`);
    },
  });
  const components = [
    createComponent("a"),
    createComponent("b", ["a"]),
    createComponent("parallel to a"),
    createComponent("last", ["b", "parallel to a"]),
  ];
  await stopInOrder(components, { log, timeoutMs: 1_000, stopNow: neverAborted() });
  const expectedEvents = ["a", "parallel to a", "b", "last"].flatMap((name) => [`${name} begins`, `${name} ends`]);
  expect([...events].sort()).toEqual(expectedEvents.sort());
  const isBefore = (event: string, laterEvent: string) => events.indexOf(event) < events.indexOf(laterEvent);
  expect(isBefore("a ends", "b begins")).toBe(true);
  expect(isBefore("parallel to a begins", "a ends")).toBe(true);
  expect(events.slice(-2)).toEqual(["last begins", "last ends"]);
  const [firstRemainingMs = 0, lastRemainingMs = 0] = [remainingTimesMs[0], remainingTimesMs.at(-1)];
  expect(firstRemainingMs).toBeGreaterThan(900);
  expect(firstRemainingMs - lastRemainingMs).toBeGreaterThanOrEqual(30);
});

test("a component that fails or hangs doesn't block the next component", async () => {
  let hasStoppedLast = false;
  const startedAtMs = performance.now();
  const components = [
    { name: "fails", stop: () => Promise.reject(new Error("no")) },
    { name: "hangs", after: ["fails"], stop: neverResolves },
    {
      name: "last",
      after: ["hangs"],
      stop: async () => {
        hasStoppedLast = true;
      },
    },
  ];
  await stopInOrder(components, { log, timeoutMs: 50, stopNow: neverAborted() });
  expect(hasStoppedLast).toBe(true);
  expect(performance.now() - startedAtMs).toBeLessThan(1_000);
});

test("an immediate shutdown stops all components without waiting for any of them", async () => {
  const stopNow = new AbortController();
  const stoppedNames: string[] = [];
  const createComponent = (name: string, after: string[] = []) => ({
    name,
    after,
    stop() {
      stoppedNames.push(name);
      return neverResolves();
    },
  });
  const startedAtMs = performance.now();
  setTimeout(() => stopNow.abort(), 30);
  await stopInOrder([createComponent("a"), createComponent("b", ["a"]), createComponent("c", ["b"])], {
    log,
    timeoutMs: 60_000,
    stopNow: stopNow.signal,
  });
  expect(stoppedNames).toEqual(["a", "b", "c"]);
  expect(performance.now() - startedAtMs).toBeLessThan(1_000);
});
