import { beforeEach, expect, test } from "bun:test";
import { Problem } from "../../src/lib/problem.ts";
import {
  createHashQueue,
  HASHES_WAITING_MAX,
  HASHES_WAITING_PER_ADDRESS_MAX,
  type HashQueue,
  type Requester,
} from "../../src/limits/hash-queue.ts";

let queue: HashQueue;
let rejectedCount = 0;
const onRejected = () => {
  rejectedCount += 1;
};
let finishedNames: string[] = [];
/** Finishes the work that occupies the only slot. */
let finishFirstTask: () => void;
let firstTask: Promise<void>;
beforeEach(() => {
  rejectedCount = 0;
  finishedNames = [];
  queue = createHashQueue({ parallelMax: 1, onRejected });
  const finished = Promise.withResolvers<void>();
  finishFirstTask = finished.resolve;
  firstTask = queue.run(createRequester({ account: "first" }), () => finished.promise);
});

const createRequester = (overrides: Partial<Requester>): Requester => ({
  ipAddress: "203.0.113.1",
  account: "anna",
  knownBy: "nothing",
  ...overrides,
});
/** Queues work, and returns "done" or the code of the error. */
const queueTask = (name: string, overrides: Partial<Requester>): Promise<string> =>
  queue
    .run(createRequester(overrides), async () => void finishedNames.push(name))
    .then(
      () => "done",
      (error) => (error instanceof Problem ? error.code : Promise.reject(error)),
    );
const queueManyTasks = (count: number, createOverrides: (n: number) => Partial<Requester>) =>
  Promise.all(Array.from({ length: count }, (_, n) => queueTask(`${n}`, createOverrides(n))));
async function finishAndCount(results: Promise<string[]>): Promise<Record<string, number>> {
  finishFirstTask();
  await firstTask;
  return Object.fromEntries(
    Object.entries(Object.groupBy(await results, (result) => result)).map(([k, v]) => [k, v?.length ?? 0]),
  );
}
const createAddress = (n: number) => `10.${n >> 8}.${n & 255}.1`;

test("the queue limits waiting requests per address, and allows an account half as many", async () => {
  const sameAccount = queueManyTasks(130, () => ({ account: "one" }));
  const sameAddress = queueManyTasks(130, (n) => ({ account: `other ${n}` }));
  const otherAddress = queueTask("another address", { ipAddress: "203.0.113.2" });
  const half = HASHES_WAITING_PER_ADDRESS_MAX / 2;
  expect(await finishAndCount(sameAccount)).toEqual({ done: half, rate_limited: 130 - half });
  expect(await finishAndCount(sameAddress)).toEqual({ done: half, rate_limited: 130 - half });
  expect(await otherAddress).toBe("done");
  expect(finishedNames.indexOf("another address")).toBeLessThan(2);
  expect(rejectedCount).toBe(260 - HASHES_WAITING_PER_ADDRESS_MAX);
});

test("known clients are accepted and served early even if unknown clients have filled their share of the queue", async () => {
  const flood = queueManyTasks(HASHES_WAITING_MAX + 30, (n) => ({ ipAddress: createAddress(n) }));
  const knownResults = [
    queueTask("by account", { ipAddress: createAddress(1_000), knownBy: "account" }),
    queueTask("by address", { ipAddress: createAddress(1_001), knownBy: "address" }),
  ];
  expect(await finishAndCount(flood)).toEqual({ done: HASHES_WAITING_MAX, overloaded: 30 });
  expect(await Promise.all(knownResults)).toEqual(["done", "done"]);
  expect(Math.max(finishedNames.indexOf("by account"), finishedNames.indexOf("by address"))).toBeLessThan(4);
});

test("a flood from a known address takes no capacity from the accounts known at that address", async () => {
  const flood = queueManyTasks(130, (n) => ({ account: `unknown ${n}`, knownBy: "address" }));
  const knownResult = queueTask("known", { account: "anna", knownBy: "account" });
  expect(await finishAndCount(flood)).toEqual({
    done: HASHES_WAITING_PER_ADDRESS_MAX,
    rate_limited: 130 - HASHES_WAITING_PER_ADDRESS_MAX,
  });
  expect(await knownResult).toBe("done");
  expect(finishedNames.indexOf("known")).toBeLessThan(3);
});

test("a client that disconnects before or while waiting takes up no queue capacity", async () => {
  const disconnectController = new AbortController();
  const disconnectedResults = queueManyTasks(HASHES_WAITING_PER_ADDRESS_MAX, (n) => ({
    account: `${n}`,
    signal: disconnectController.signal,
  }));
  expect(await queueTask("queue full", { account: "late" })).toBe("rate_limited");
  disconnectController.abort();
  expect(new Set(await disconnectedResults)).toEqual(new Set(["overloaded"]));
  expect(await queueTask("already disconnected", { signal: disconnectController.signal })).toBe("overloaded");
  const lateResult = queueManyTasks(1, () => ({ account: "late" }));
  expect(await finishAndCount(lateResult)).toEqual({ done: 1 });
  expect(finishedNames).toEqual(["0"]);
});

test("IPv6 clients are counted by /64 prefix", async () => {
  const flood = queueManyTasks(130, (n) => ({ ipAddress: `2001:db8:1:2::${n}`, account: `${n}` }));
  expect((await finishAndCount(flood)).done).toBe(HASHES_WAITING_PER_ADDRESS_MAX);
});
