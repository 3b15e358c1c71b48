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
let refused = 0;
const onRejected = () => {
  refused += 1;
};
let done: string[] = [];
/** Finishes the work that occupies the only slot. */
let finishFirst: () => void;
let firstWork: Promise<void>;
beforeEach(() => {
  refused = 0;
  done = [];
  queue = createHashQueue({ parallelMax: 1, onRejected });
  const gate = Promise.withResolvers<void>();
  finishFirst = gate.resolve;
  firstWork = queue.run(createRequester({ account: "first" }), () => gate.promise);
});

const createRequester = (overrides: Partial<Requester>): Requester => ({
  ipAddress: "203.0.113.1",
  account: "anna",
  knownBy: "nothing",
  ...overrides,
});
/** Queues work, and returns "done" or the code of the refusal. */
const queueWork = (name: string, overrides: Partial<Requester>): Promise<string> =>
  queue
    .run(createRequester(overrides), async () => void done.push(name))
    .then(
      () => "done",
      (error) => (error instanceof Problem ? error.code : Promise.reject(error)),
    );
const queueMany = (count: number, createOverrides: (n: number) => Partial<Requester>) =>
  Promise.all(Array.from({ length: count }, (_, n) => queueWork(`${n}`, createOverrides(n))));
async function finishAndCount(results: Promise<string[]>): Promise<Record<string, number>> {
  finishFirst();
  await firstWork;
  return Object.fromEntries(
    Object.entries(Object.groupBy(await results, (result) => result)).map(([k, v]) => [k, v?.length ?? 0]),
  );
}
const createAddress = (n: number) => `10.${n >> 8}.${n & 255}.1`;

test("the queue limits waiting requests per address, and allows an account half as many", async () => {
  const sameAccount = queueMany(130, () => ({ account: "one" }));
  const sameAddress = queueMany(130, (n) => ({ account: `other ${n}` }));
  const otherAddress = queueWork("another address", { ipAddress: "203.0.113.2" });
  const half = HASHES_WAITING_PER_ADDRESS_MAX / 2;
  expect(await finishAndCount(sameAccount)).toEqual({ done: half, rate_limited: 130 - half });
  expect(await finishAndCount(sameAddress)).toEqual({ done: half, rate_limited: 130 - half });
  expect(await otherAddress).toBe("done");
  expect(done.indexOf("another address")).toBeLessThan(2);
  expect(refused).toBe(260 - HASHES_WAITING_PER_ADDRESS_MAX);
});

test("known clients are accepted and served early even if unknown clients have filled their share of the queue", async () => {
  const flood = queueMany(HASHES_WAITING_MAX + 30, (n) => ({ ipAddress: createAddress(n) }));
  const known = [
    queueWork("by account", { ipAddress: createAddress(1_000), knownBy: "account" }),
    queueWork("by address", { ipAddress: createAddress(1_001), knownBy: "address" }),
  ];
  expect(await finishAndCount(flood)).toEqual({ done: HASHES_WAITING_MAX, overloaded: 30 });
  expect(await Promise.all(known)).toEqual(["done", "done"]);
  expect(Math.max(done.indexOf("by account"), done.indexOf("by address"))).toBeLessThan(4);
});

test("a flood from a known address takes no capacity from the accounts known at that address", async () => {
  const flood = queueMany(130, (n) => ({ account: `unknown ${n}`, knownBy: "address" }));
  const known = queueWork("known", { account: "anna", knownBy: "account" });
  expect(await finishAndCount(flood)).toEqual({
    done: HASHES_WAITING_PER_ADDRESS_MAX,
    rate_limited: 130 - HASHES_WAITING_PER_ADDRESS_MAX,
  });
  expect(await known).toBe("done");
  expect(done.indexOf("known")).toBeLessThan(3);
});

test("a client that disconnects before or while waiting takes up no queue capacity", async () => {
  const disconnecting = new AbortController();
  const disconnected = queueMany(HASHES_WAITING_PER_ADDRESS_MAX, (n) => ({
    account: `${n}`,
    signal: disconnecting.signal,
  }));
  expect(await queueWork("queue full", { account: "late" })).toBe("rate_limited");
  disconnecting.abort();
  expect(new Set(await disconnected)).toEqual(new Set(["overloaded"]));
  expect(await queueWork("already disconnected", { signal: disconnecting.signal })).toBe("overloaded");
  const late = queueMany(1, () => ({ account: "late" }));
  expect(await finishAndCount(late)).toEqual({ done: 1 });
  expect(done).toEqual(["0"]);
});

test("IPv6 clients are counted by /64 prefix", async () => {
  const flood = queueMany(130, (n) => ({ ipAddress: `2001:db8:1:2::${n}`, account: `${n}` }));
  expect((await finishAndCount(flood)).done).toBe(HASHES_WAITING_PER_ADDRESS_MAX);
});
