import { afterEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import postgres from "postgres";
import {
  BATCH_ITEMS_MAX,
  createGroupCommit,
  ITEM_LOCKED,
  LANE_ITEMS_MAX,
  LANES_WAITING_MAX,
  LOCKED,
  WAITING_BYTES_MAX,
  WAITING_ITEMS_MAX,
} from "../../src/db/group-commit.ts";
import { Problem } from "../../src/lib/problem.ts";
import { advanceClock, resetClock } from "../support/clock.ts";
import { countRuns } from "../support/properties.ts";

afterEach(resetClock);

type Item = { key: string; sender: string; n: number; bytes?: number };

const fail = (code: string) => Object.assign(new postgres.PostgresError(code), { code });
const [LOCK_TIMEOUT, DEADLOCK, STATEMENT_TIMEOUT, BAD_ROW, SHUTDOWN] = ["55P03", "40P01", "57014", "22021", "57P01"];

/** An in-memory store, some of whose conversations and senders are locked by another transaction. */
function createStore({ lockTimeoutMs = 20, laneTimeoutMs = 12_000 } = {}) {
  const stored: Item[] = [];
  const locked = new Map<string, Promise<void>>();
  /** Items that can't be stored, by the error that fails their batch. */
  const faults = new Map<number, string>();
  const batches: Item[][] = [];
  const waits: Item[][] = [];
  let waiting = 0;
  let waitingMax = 0;
  function write(items: Item[]) {
    const fault = items.map(({ n }) => faults.get(n)).find((code) => code !== undefined);
    if (fault) throw fail(fault);
    const behind = new Set<string>();
    const results = items.map((item) => {
      if (locked.has(item.sender)) behind.add(`${item.key} ${item.sender}`);
      return behind.has(`${item.key} ${item.sender}`) ? ITEM_LOCKED : item.n;
    });
    stored.push(...items.filter((_, index) => results[index] !== ITEM_LOCKED));
    return results;
  }
  const commits = createGroupCommit<Item, number>({
    laneTimeoutMs,
    keyOf: ({ key }) => key,
    senderOf: ({ sender }) => sender,
    bytesOf: ({ bytes = 10 }) => bytes,
    async commit(items) {
      batches.push(items);
      await Bun.sleep(1);
      const free = items.filter(({ key }) => !locked.has(key));
      const results = free.length > 0 ? write(free) : [];
      return items.map((item) => results[free.indexOf(item)] ?? LOCKED);
    },
    async commitWaiting(items) {
      waits.push(items);
      waiting += 1;
      waitingMax = Math.max(waitingMax, waiting);
      const key = items[0]?.key ?? "";
      try {
        await Promise.race([locked.get(key), Bun.sleep(lockTimeoutMs)]);
        if (locked.has(key)) throw fail(LOCK_TIMEOUT);
        await Bun.sleep(1);
        return write(items);
      } finally {
        waiting -= 1;
      }
    },
  });
  return {
    commits,
    stored,
    batches,
    waits,
    faults,
    waitingMax: () => waitingMax,
    /** Locks a conversation or a sender. @returns a function that unlocks it. */
    lock(name: string): () => void {
      const { promise, resolve } = Promise.withResolvers<void>();
      locked.set(name, promise);
      return () => {
        locked.delete(name);
        resolve();
      };
    },
    /** @returns the number of the item, or its error code. */
    submit: (key: string, sender: string, n: number): Promise<number | string> =>
      commits.submit({ key, sender, n }).catch((error: { code: string }) => error.code),
    ordersOf: (key: string) =>
      Map.groupBy(
        stored.filter((item) => item.key === key),
        ({ sender }) => sender,
      ),
  };
}

const range = (count: number, from = 0) => Array.from({ length: count }, (_, n) => from + n);

describe("a locked conversation", () => {
  test("blocks no other conversation, and gets all queued items in order", async () => {
    const store = createStore();
    const unlock = store.lock("locked");
    const queued = Array.from({ length: 50 }, (_, n) => store.commits.submit({ key: "locked", sender: "a", n }));
    for (let n = 100; n < 200; n += 1) expect(await store.commits.submit({ key: "free", sender: "a", n })).toBe(n);
    queued.push(store.commits.submit({ key: "locked", sender: "a", n: 50 }));
    expect(store.stored.filter(({ key }) => key === "locked")).toEqual([]);
    unlock();
    expect(await Promise.all(queued)).toEqual(Array.from({ length: 51 }, (_, n) => n));
    expect(
      store
        .ordersOf("locked")
        .get("a")
        ?.map(({ n }) => n),
    ).toEqual(Array.from({ length: 51 }, (_, n) => n));
    expect(store.commits.waiting()).toBe(0);
  });

  test("takes few connections, however many there are, and each gets its turn", async () => {
    const store = createStore({ lockTimeoutMs: 5 });
    const unlocks = Array.from({ length: 20 }, (_, n) => store.lock(`${n}`));
    const all = Array.from({ length: 20 }, (_, n) => store.commits.submit({ key: `${n}`, sender: "a", n }));
    await Bun.sleep(50);
    unlocks.at(-1)?.();
    // The last one is unlocked: it gets its turn while all others are still locked.
    expect(await all.at(-1)).toBe(19);
    for (const unlock of unlocks) unlock();
    await Promise.all(all);
    expect(store.waitingMax()).toBe(LANES_WAITING_MAX);
  });

  test("delays no unrelated conversation that was locked briefly, however many are locked", async () => {
    const store = createStore({ lockTimeoutMs: 1_500 });
    const unlocks = range(20).map((n) => store.lock(`${n}`));
    const queued = range(20).map((n) => store.submit(`${n}`, "a", n));
    for (const [n, untilMs] of [
      [100, 0],
      [101, 500],
      [102, 2_000],
    ] as const) {
      await Bun.sleep(Math.max(50, untilMs));
      const unlock = store.lock("stranger");
      setTimeout(unlock, 5);
      const startedAtMs = performance.now();
      expect(await store.submit("stranger", "b", n)).toBe(n);
      expect(performance.now() - startedAtMs).toBeLessThan(100);
    }
    for (const unlock of unlocks) unlock();
    expect(await Promise.all(queued)).toEqual(range(20));
  });

  test("is waited for in the database once; while it stays locked, only its first item is attempted", async () => {
    const store = createStore({ lockTimeoutMs: 100 });
    const unlock = store.lock("locked");
    const queued = range(30).map((n) => store.submit("locked", "a", n));
    await Bun.sleep(150);
    // From then on, its lane is slow.
    advanceClock(1_000);
    await Bun.sleep(50);
    expect(store.waits.map((items) => items.length)).toEqual([30]);
    const before = store.batches.length;
    await Bun.sleep(500);
    const attempts = store.batches.slice(before);
    expect(attempts.length).toBeGreaterThan(1);
    expect(attempts.length).toBeLessThan(10);
    expect(Math.max(...attempts.map((items) => items.length))).toBe(1);
    unlock();
    expect(await Promise.all(queued)).toEqual(range(30));
    expect(store.stored.map(({ n }) => n)).toEqual(range(30));
  });

  test("fails items that waited too long, and later items of the same sender", async () => {
    const store = createStore({ lockTimeoutMs: 20, laneTimeoutMs: 300 });
    const unlock = store.lock("locked");
    const early = [store.submit("locked", "a", 1), store.submit("locked", "b", 2)];
    await Bun.sleep(250);
    const later = [store.submit("locked", "a", 3), store.submit("locked", "c", 4)];
    expect(await Promise.all([...early, later[0]])).toEqual(["overloaded", "overloaded", "overloaded"]);
    unlock();
    expect(await later[1]).toBe(4);
    expect(await store.submit("locked", "a", 5)).toBe(5);
    expect(store.stored.map(({ n }) => n)).toEqual([4, 5]);
    expect(store.commits.waiting()).toBe(0);
  });

  test("times out with all others, also while queued for the database", async () => {
    const store = createStore({ lockTimeoutMs: 5_000, laneTimeoutMs: 300 });
    for (const n of range(20)) store.lock(`${n}`);
    const startedAtMs = performance.now();
    const results: unknown[] = [];
    for (const n of range(20)) void store.submit(`${n}`, "a", n).then((result) => results.push(result));
    // Which of them wait in the database depends on timing.
    while (results.length < 20 - LANES_WAITING_MAX && performance.now() - startedAtMs < 2_000) await Bun.sleep(10);
    expect(results).toEqual(range(20 - LANES_WAITING_MAX).map(() => "overloaded"));
    expect(performance.now() - startedAtMs).toBeLessThan(1_500);
  });

  test("has a bounded queue: items beyond it are rejected as overloaded", async () => {
    const store = createStore();
    const unlock = store.lock("locked");
    const all = Array.from({ length: LANE_ITEMS_MAX + 5 }, (_, n) =>
      store.commits.submit({ key: "locked", sender: "a", n }).catch((error: unknown) => error),
    );
    await Bun.sleep(30);
    unlock();
    const refused = (await Promise.all(all)).filter((result) => result instanceof Problem);
    expect(refused).toHaveLength(5);
    // With different delays, so that they don't all retry at once.
    for (const problem of refused) {
      expect(problem).toMatchObject({ code: "overloaded" });
      expect((problem as Problem).retryAfterMs).toBeWithin(1_000, 4_001);
    }
    expect(new Set(refused.map((problem) => (problem as Problem).retryAfterMs)).size).toBeGreaterThan(1);
  });
});

describe("a locked sender", () => {
  test("blocks no other sender in the conversation, nor in others", async () => {
    const store = createStore();
    const unlock = store.lock("payer");
    const queued = range(50).map((n) => store.submit("group", "payer", n));
    for (const n of range(50, 100)) {
      const startedAtMs = performance.now();
      expect(await store.submit("group", "neighbour", n)).toBe(n);
      expect(performance.now() - startedAtMs).toBeLessThan(100);
    }
    queued.push(store.submit("group", "payer", 50));
    expect(store.waits).toEqual([]);
    unlock();
    expect(await Promise.all(queued)).toEqual(range(51));
    expect(
      store
        .ordersOf("group")
        .get("payer")
        ?.map(({ n }) => n),
    ).toEqual(range(51));
  });

  test("keeps its order if the conversation is locked as well", async () => {
    const store = createStore({ lockTimeoutMs: 30 });
    const unlockPayer = store.lock("payer");
    const all = range(5).map((n) => store.submit("group", "payer", n));
    await Bun.sleep(20);
    const unlock = store.lock("group");
    all.push(store.submit("group", "neighbour", 5), store.submit("group", "payer", 6));
    await Bun.sleep(50);
    unlockPayer();
    await Bun.sleep(50);
    all.push(store.submit("group", "payer", 7));
    unlock();
    expect(await Promise.all(all)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(
      store
        .ordersOf("group")
        .get("payer")
        ?.map(({ n }) => n),
    ).toEqual([0, 1, 2, 3, 4, 6, 7]);
  });

  test("doesn't split a batch into single commits if all of it is locked briefly", async () => {
    const store = createStore();
    const unlock = store.lock("payer");
    const all = range(500).map((n) => store.submit(`${n}`, "payer", n));
    setTimeout(unlock, 40);
    expect(await Promise.all(all)).toEqual(range(500));
    expect(store.batches.length).toBeLessThan(50);
    expect(store.waits).toEqual([]);
  });
});

describe("a batch", () => {
  test("with an item that can't be stored stores all others, and fails only that one", async () => {
    const store = createStore();
    for (const n of [3, 77]) store.faults.set(n, BAD_ROW);
    const results = await Promise.all(range(100).map((n) => store.submit(`${n % 7}`, "a", n)));
    expect(results).toEqual(range(100).map((n) => (n === 3 || n === 77 ? BAD_ROW : n)));
  });

  test.each([LOCK_TIMEOUT, DEADLOCK])(
    "with an item that fails with %s stores all others; that one waits",
    async (code) => {
      const store = createStore({ laneTimeoutMs: 5_000 });
      store.faults.set(33, code);
      const all = range(100).map((n) => store.submit(`${n % 7}`, n % 7 === 5 ? `${n}` : "a", n));
      const others = await Promise.all(all.filter((_, n) => n !== 33));
      expect(others).toEqual(range(100).filter((n) => n !== 33));
      const before = store.batches.length;
      // Others continue, and it is never batched with them again.
      expect(await store.submit("5", "neighbour", 100)).toBe(100);
      await Bun.sleep(700);
      expect(
        store.batches
          .slice(before)
          .flat()
          .map(({ n }) => n),
      ).toEqual([100]);
      expect(store.waits.length).toBeGreaterThan(0);
      store.faults.clear();
      expect(await all[33]).toBe(33);
    },
  );

  test("that times out is split in halves; the bad item fails, and later items of its sender", async () => {
    const store = createStore();
    store.faults.set(42, STATEMENT_TIMEOUT);
    const results = await Promise.all(range(100).map((n) => store.submit(n % 10 === 2 ? "slow" : `${n}`, "a", n)));
    expect(results).toEqual(range(100).map((n) => (n >= 42 && n % 10 === 2 ? STATEMENT_TIMEOUT : n)));
    expect(await store.submit("slow", "a", 100)).toBe(100);
  });

  test("that the database rejects fails, with later items of the same senders", async () => {
    const store = createStore();
    store.faults.set(0, SHUTDOWN);
    const first = store.submit("a", "a", 0);
    await Bun.sleep(0);
    const later = [store.submit("a", "a", 1), store.submit("a", "b", 2), store.submit("b", "a", 3)];
    expect(await Promise.all([first, ...later])).toEqual([SHUTDOWN, SHUTDOWN, 2, 3]);
  });

  test.each([STATEMENT_TIMEOUT, SHUTDOWN])("of a lane that fails with %s fails later items as well", async (code) => {
    const store = createStore({ lockTimeoutMs: 500 });
    const unlock = store.lock("locked");
    store.faults.set(0, code);
    const first = store.submit("locked", "a", 0);
    await Bun.sleep(150);
    expect(store.waits).toHaveLength(1);
    const later = [store.submit("locked", "a", 1), store.submit("locked", "b", 2), store.submit("locked", "a", 3)];
    unlock();
    expect(await Promise.all([first, ...later])).toEqual([code, code, 2, code]);
    expect(await store.submit("locked", "a", 4)).toBe(4);
  });

  test("is limited by items and by bytes", async () => {
    const store = createStore();
    const all = Array.from({ length: BATCH_ITEMS_MAX + 1 }, (_, n) =>
      store.commits.submit({ key: "a", sender: "a", n, bytes: n === 0 ? 5_000_000 : 100_000 }),
    );
    await Promise.all(all);
    expect(store.batches[0]).toHaveLength(1);
    expect(Math.max(...store.batches.map((batch) => batch.length))).toBeLessThanOrEqual(42);
  });
});

test.each([
  ["items", Array.from({ length: WAITING_ITEMS_MAX }, () => 10)],
  ["bytes", Array.from({ length: 64 }, () => WAITING_BYTES_MAX / 64)],
])("the queues of all lanes together are limited by %s", async (_, sizes) => {
  const store = createStore({ laneTimeoutMs: 1_500 });
  for (const n of range(64)) store.lock(`${n}`);
  const all = sizes.map((bytes, n) =>
    store.commits.submit({ key: `${n % 64}`, sender: "a", n, bytes }).catch((error: Problem) => error.code),
  );
  await Bun.sleep(100);
  expect(store.commits.waiting()).toBe(sizes.length);
  expect(await store.submit("free", "a", 0)).toBe("overloaded");
  await Promise.all(all);
  expect(await store.submit("free", "a", 0)).toBe(0);
  expect(store.commits.waiting()).toBe(0);
});

test("with any locks and failures, each item completes once, and no item overtakes another", async () => {
  const [key, sender, ms] = [fc.nat(3), fc.nat(2), fc.nat(12)];
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.record({ kind: fc.constant("send" as const), key, sender }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("lock" as const), name: fc.nat(3).map(String), ms }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("lock" as const), name: fc.nat(2).map((n) => `s${n}`), ms }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("fault" as const),
        key,
        sender,
        code: fc.constantFrom(BAD_ROW, LOCK_TIMEOUT, DEADLOCK, STATEMENT_TIMEOUT, SHUTDOWN),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("pause" as const), ms: fc.nat(3) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 80 }), async (steps) => {
      const store = createStore({ lockTimeoutMs: 4 });
      const pending = new Map<number, string>();
      /** Items sent after an item that failed temporarily, before its failure. */
      const mustFail = new Set<number>();
      const failed = new Set<number>();
      const ends: Promise<number | string>[] = [];
      for (const [n, one] of steps.entries()) {
        if (one.kind === "pause") await Bun.sleep(one.ms);
        else if (one.kind === "lock") setTimeout(store.lock(one.name), one.ms);
        else {
          const [key, sender] = [`${one.key}`, `s${one.sender}`];
          const order = `${key} ${sender}`;
          if (one.kind === "fault") {
            store.faults.set(n, one.code);
            // Locks that are waited for within the commit are released after a while.
            if (one.code === LOCK_TIMEOUT || one.code === DEADLOCK) setTimeout(() => store.faults.delete(n), 20);
          }
          pending.set(n, order);
          const end = store.submit(key, sender, n).then((result) => {
            pending.delete(n);
            if (typeof result === "string") failed.add(n);
            if (result === STATEMENT_TIMEOUT || result === SHUTDOWN)
              for (const [later, itsOrder] of pending) if (itsOrder === order && later > n) mustFail.add(later);
            return result;
          });
          ends.push(end);
        }
      }
      const results = await Promise.all(ends);
      expect(results.filter((result) => result === LOCK_TIMEOUT || result === "overloaded")).toEqual([]);
      const numbers = results.filter((result) => typeof result === "number");
      expect(store.stored.map(({ n }) => n).sort((a, b) => a - b)).toEqual(numbers.sort((a, b) => a - b));
      expect([...mustFail].filter((n) => !failed.has(n))).toEqual([]);
      expect(store.commits.waiting()).toBe(0);
      for (const key of ["0", "1", "2", "3"])
        for (const items of store.ordersOf(key).values())
          expect(items.map(({ n }) => n)).toEqual(items.map(({ n }) => n).sort((a, b) => a - b));
    }),
    { numRuns: countRuns(25) },
  );
});
