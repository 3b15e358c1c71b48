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
const onRefused = () => {
  refused += 1;
};
let done: string[] = [];
/** Ends the work that holds the only slot. */
let open: () => void;
let opened: Promise<void>;
beforeEach(() => {
  refused = 0;
  done = [];
  queue = createHashQueue({ parallelMax: 1, onRefused });
  const gate = Promise.withResolvers<void>();
  open = gate.resolve;
  opened = queue.run(requester({ account: "first" }), () => gate.promise);
});

const requester = (of: Partial<Requester>): Requester => ({
  ipAddress: "203.0.113.1",
  account: "anna",
  knownBy: "nothing",
  ...of,
});
/** @returns "done", or the code of the refusal. */
const ask = (name: string, of: Partial<Requester>): Promise<string> =>
  queue
    .run(requester(of), async () => void done.push(name))
    .then(
      () => "done",
      (error) => (error instanceof Problem ? error.code : Promise.reject(error)),
    );
const askMany = (times: number, createOf: (n: number) => Partial<Requester>) =>
  Promise.all(Array.from({ length: times }, (_, n) => ask(`${n}`, createOf(n))));
async function openAndCount(results: Promise<string[]>): Promise<Record<string, number>> {
  open();
  await opened;
  return Object.fromEntries(
    Object.entries(Object.groupBy(await results, (end) => end)).map(([k, v]) => [k, v?.length ?? 0]),
  );
}
const elsewhere = (n: number) => `10.${n >> 8}.${n & 255}.1`;

test("has a waiting limit per address, and half of it per account; the rest get 429", async () => {
  const ofAccount = askMany(130, () => ({ account: "one" }));
  const ofAddress = askMany(130, (n) => ({ account: `other ${n}` }));
  const ofAnother = ask("another address", { ipAddress: "203.0.113.2" });
  const half = HASHES_WAITING_PER_ADDRESS_MAX / 2;
  expect(await openAndCount(ofAccount)).toEqual({ done: half, rate_limited: 130 - half });
  expect(await openAndCount(ofAddress)).toEqual({ done: half, rate_limited: 130 - half });
  expect(await ofAnother).toBe("done");
  expect(done.indexOf("another address")).toBeLessThan(2);
  expect(refused).toBe(260 - HASHES_WAITING_PER_ADDRESS_MAX);
});

test("lets known addresses in when unknown ones have filled their share, and serves them soon", async () => {
  const flood = askMany(HASHES_WAITING_MAX + 30, (n) => ({ ipAddress: elsewhere(n) }));
  const known = [
    ask("by account", { ipAddress: elsewhere(1_000), knownBy: "account" }),
    ask("by address", { ipAddress: elsewhere(1_001), knownBy: "address" }),
  ];
  expect(await openAndCount(flood)).toEqual({ done: HASHES_WAITING_MAX, overloaded: 30 });
  expect(await Promise.all(known)).toEqual(["done", "done"]);
  expect(Math.max(done.indexOf("by account"), done.indexOf("by address"))).toBeLessThan(4);
});

test("a flood from a known address takes no capacity from the accounts known there", async () => {
  const flood = askMany(130, (n) => ({ account: `unknown ${n}`, knownBy: "address" }));
  const known = ask("known", { account: "anna", knownBy: "account" });
  expect(await openAndCount(flood)).toEqual({
    done: HASHES_WAITING_PER_ADDRESS_MAX,
    rate_limited: 130 - HASHES_WAITING_PER_ADDRESS_MAX,
  });
  expect(await known).toBe("done");
  expect(done.indexOf("known")).toBeLessThan(3);
});

test("clients that disconnect, before or while waiting, free their slot", async () => {
  const leaving = new AbortController();
  const gone = askMany(HASHES_WAITING_PER_ADDRESS_MAX, (n) => ({ account: `${n}`, signal: leaving.signal }));
  expect(await ask("no room", { account: "late" })).toBe("rate_limited");
  leaving.abort();
  expect(new Set(await gone)).toEqual(new Set(["overloaded"]));
  expect(await ask("gone before", { signal: leaving.signal })).toBe("overloaded");
  const late = askMany(1, () => ({ account: "late" }));
  expect(await openAndCount(late)).toEqual({ done: 1 });
  expect(done).toEqual(["0"]);
});

test("counts IPv6 clients by /64", async () => {
  const flood = askMany(130, (n) => ({ ipAddress: `2001:db8:1:2::${n}`, account: `${n}` }));
  expect((await openAndCount(flood)).done).toBe(HASHES_WAITING_PER_ADDRESS_MAX);
});
