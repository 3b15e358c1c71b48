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
import { scaleRuns } from "../support/property-tests.ts";
import { advanceClock, resetClock } from "../support/test-clock.ts";

afterEach(resetClock);

type Item = { key: string; sender: string; n: number; bytes?: number };

const createError = (code: string) => Object.assign(new postgres.PostgresError(code), { code });
const [LOCK_TIMEOUT, DEADLOCK, STATEMENT_TIMEOUT, INVALID_VALUE, SHUTDOWN] = [
  "55P03",
  "40P01",
  "57014",
  "22021",
  "57P01",
];

/** Creates an in-memory store in which conversations and senders can be locked, as if by a concurrent transaction. */
function createStore({ lockTimeoutMs = 20, laneTimeoutMs = 12_000 } = {}) {
  const stored: Item[] = [];
  const locks = new Map<string, Promise<void>>();
  /** Error codes by item number. A batch that contains the item fails with its code. */
  const errorCodes = new Map<number, string>();
  const batches: Item[][] = [];
  const waitingBatches: Item[][] = [];
  let waitingCount = 0;
  let waitingMax = 0;
  function storeItems(items: Item[]) {
    const errorCode = items.map(({ n }) => errorCodes.get(n)).find((code) => code !== undefined);
    if (errorCode) throw createError(errorCode);
    const lockedSenders = new Set<string>();
    const results = items.map((item) => {
      if (locks.has(item.sender)) lockedSenders.add(`${item.key} ${item.sender}`);
      return lockedSenders.has(`${item.key} ${item.sender}`) ? ITEM_LOCKED : item.n;
    });
    stored.push(...items.filter((_, index) => results[index] !== ITEM_LOCKED));
    return results;
  }
  const commits = createGroupCommit<Item, number>({
    laneTimeoutMs,
    getKey: ({ key }) => key,
    getSender: ({ sender }) => sender,
    getBytes: ({ bytes = 10 }) => bytes,
    async commit(items) {
      batches.push(items);
      await Bun.sleep(1);
      const unlockedItems = items.filter(({ key }) => !locks.has(key));
      const results = unlockedItems.length > 0 ? storeItems(unlockedItems) : [];
      return items.map((item) => results[unlockedItems.indexOf(item)] ?? LOCKED);
    },
    async waitAndCommit(items) {
      waitingBatches.push(items);
      waitingCount += 1;
      waitingMax = Math.max(waitingMax, waitingCount);
      const key = items[0]?.key ?? "";
      try {
        await Promise.race([locks.get(key), Bun.sleep(lockTimeoutMs)]);
        if (locks.has(key)) throw createError(LOCK_TIMEOUT);
        await Bun.sleep(1);
        return storeItems(items);
      } finally {
        waitingCount -= 1;
      }
    },
  });
  return {
    commits,
    stored,
    batches,
    waitingBatches,
    errorCodes,
    getWaitingMax: () => waitingMax,
    /** Locks a conversation or a sender. @returns a function that unlocks it. */
    lock(name: string): () => void {
      const { promise, resolve } = Promise.withResolvers<void>();
      locks.set(name, promise);
      return () => {
        locks.delete(name);
        resolve();
      };
    },
    /** Submits an item. @returns the item's number, or an error code. */
    submit: (key: string, sender: string, n: number): Promise<number | string> =>
      commits.submit({ key, sender, n }).catch((error: { code: string }) => error.code),
    groupBySender: (key: string) =>
      Map.groupBy(
        stored.filter((item) => item.key === key),
        ({ sender }) => sender,
      ),
  };
}

const createRange = (count: number, from = 0) => Array.from({ length: count }, (_, n) => from + n);

describe("a locked conversation", () => {
  test("doesn't block other conversations, and its queued items are stored in order once it is unlocked", async () => {
    const store = createStore();
    const unlock = store.lock("locked");
    const queuedItems = Array.from({ length: 50 }, (_, n) => store.commits.submit({ key: "locked", sender: "a", n }));
    for (let n = 100; n < 200; n += 1) expect(await store.commits.submit({ key: "free", sender: "a", n })).toBe(n);
    queuedItems.push(store.commits.submit({ key: "locked", sender: "a", n: 50 }));
    expect(store.stored.filter(({ key }) => key === "locked")).toEqual([]);
    unlock();
    expect(await Promise.all(queuedItems)).toEqual(Array.from({ length: 51 }, (_, n) => n));
    expect(
      store
        .groupBySender("locked")
        .get("a")
        ?.map(({ n }) => n),
    ).toEqual(Array.from({ length: 51 }, (_, n) => n));
    expect(store.commits.countWaiting()).toBe(0);
  });

  test("is retried regularly over a few connections, even if many conversations are locked", async () => {
    const store = createStore({ lockTimeoutMs: 5 });
    const unlocks = Array.from({ length: 20 }, (_, n) => store.lock(`${n}`));
    const submissions = Array.from({ length: 20 }, (_, n) => store.commits.submit({ key: `${n}`, sender: "a", n }));
    await Bun.sleep(50);
    unlocks.at(-1)?.();
    // The last conversation's item is stored while all other conversations are still locked.
    expect(await submissions.at(-1)).toBe(19);
    for (const unlock of unlocks) unlock();
    await Promise.all(submissions);
    expect(store.getWaitingMax()).toBe(LANES_WAITING_MAX);
  });

  test("doesn't delay a briefly locked conversation, even if many conversations stay locked", async () => {
    const store = createStore({ lockTimeoutMs: 1_500 });
    const unlocks = createRange(20).map((n) => store.lock(`${n}`));
    const queuedItems = createRange(20).map((n) => store.submit(`${n}`, "a", n));
    for (const [n, delayMs] of [
      [100, 0],
      [101, 500],
      [102, 2_000],
    ] as const) {
      await Bun.sleep(Math.max(50, delayMs));
      const unlock = store.lock("other");
      setTimeout(unlock, 5);
      const startedAtMs = performance.now();
      expect(await store.submit("other", "b", n)).toBe(n);
      expect(performance.now() - startedAtMs).toBeLessThan(100);
    }
    for (const unlock of unlocks) unlock();
    expect(await Promise.all(queuedItems)).toEqual(createRange(20));
  });

  test("waits for the lock in the database once, and later attempts include only its first item", async () => {
    const store = createStore({ lockTimeoutMs: 100 });
    const unlock = store.lock("locked");
    const queuedItems = createRange(30).map((n) => store.submit("locked", "a", n));
    await Bun.sleep(150);
    // After a second, the conversation's lane (its queue of items) counts as slow.
    advanceClock(1_000);
    await Bun.sleep(50);
    expect(store.waitingBatches.map((items) => items.length)).toEqual([30]);
    const previousBatches = store.batches.length;
    await Bun.sleep(500);
    const attempts = store.batches.slice(previousBatches);
    expect(attempts.length).toBeGreaterThan(1);
    expect(attempts.length).toBeLessThan(10);
    expect(Math.max(...attempts.map((items) => items.length))).toBe(1);
    unlock();
    expect(await Promise.all(queuedItems)).toEqual(createRange(30));
    expect(store.stored.map(({ n }) => n)).toEqual(createRange(30));
  });

  test("rejects items that waited too long, and later items from the same sender", async () => {
    const store = createStore({ lockTimeoutMs: 20, laneTimeoutMs: 300 });
    const unlock = store.lock("locked");
    const earlyItems = [store.submit("locked", "a", 1), store.submit("locked", "b", 2)];
    await Bun.sleep(250);
    const laterItems = [store.submit("locked", "a", 3), store.submit("locked", "c", 4)];
    expect(await Promise.all([...earlyItems, laterItems[0]])).toEqual(["overloaded", "overloaded", "overloaded"]);
    unlock();
    expect(await laterItems[1]).toBe(4);
    expect(await store.submit("locked", "a", 5)).toBe(5);
    expect(store.stored.map(({ n }) => n)).toEqual([4, 5]);
    expect(store.commits.countWaiting()).toBe(0);
  });

  test("times out even while it waits for one of the few connections", async () => {
    const store = createStore({ lockTimeoutMs: 5_000, laneTimeoutMs: 300 });
    for (const n of createRange(20)) store.lock(`${n}`);
    const startedAtMs = performance.now();
    const results: unknown[] = [];
    for (const n of createRange(20)) void store.submit(`${n}`, "a", n).then((result) => results.push(result));
    // Some conversations are waiting in the database and haven't timed out yet. Which ones depends on timing.
    while (results.length < 20 - LANES_WAITING_MAX && performance.now() - startedAtMs < 2_000) await Bun.sleep(10);
    expect(results).toEqual(createRange(20 - LANES_WAITING_MAX).map(() => "overloaded"));
    expect(performance.now() - startedAtMs).toBeLessThan(1_500);
  });

  test("has a limited queue, and rejects further items as overloaded", async () => {
    const store = createStore();
    const unlock = store.lock("locked");
    const submissions = Array.from({ length: LANE_ITEMS_MAX + 5 }, (_, n) =>
      store.commits.submit({ key: "locked", sender: "a", n }).catch((error: unknown) => error),
    );
    await Bun.sleep(30);
    unlock();
    const problems = (await Promise.all(submissions)).filter((result) => result instanceof Problem);
    expect(problems).toHaveLength(5);
    // The delays differ, so that clients don't all retry at the same time.
    for (const problem of problems) {
      expect(problem).toMatchObject({ code: "overloaded" });
      expect((problem as Problem).retryAfterMs).toBeWithin(1_000, 4_001);
    }
    expect(new Set(problems.map((problem) => (problem as Problem).retryAfterMs)).size).toBeGreaterThan(1);
  });
});

describe("a locked sender", () => {
  test("doesn't block other senders", async () => {
    const store = createStore();
    const unlock = store.lock("locked-sender");
    const queuedItems = createRange(50).map((n) => store.submit("group", "locked-sender", n));
    for (const n of createRange(50, 100)) {
      const startedAtMs = performance.now();
      expect(await store.submit("group", "other", n)).toBe(n);
      expect(performance.now() - startedAtMs).toBeLessThan(100);
    }
    queuedItems.push(store.submit("group", "locked-sender", 50));
    expect(store.waitingBatches).toEqual([]);
    unlock();
    expect(await Promise.all(queuedItems)).toEqual(createRange(51));
    expect(
      store
        .groupBySender("group")
        .get("locked-sender")
        ?.map(({ n }) => n),
    ).toEqual(createRange(51));
  });

  test("keeps the order of its items if the conversation is locked too", async () => {
    const store = createStore({ lockTimeoutMs: 30 });
    const unlockSender = store.lock("locked-sender");
    const submissions = createRange(5).map((n) => store.submit("group", "locked-sender", n));
    await Bun.sleep(20);
    const unlock = store.lock("group");
    submissions.push(store.submit("group", "other", 5), store.submit("group", "locked-sender", 6));
    await Bun.sleep(50);
    unlockSender();
    await Bun.sleep(50);
    submissions.push(store.submit("group", "locked-sender", 7));
    unlock();
    expect(await Promise.all(submissions)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(
      store
        .groupBySender("group")
        .get("locked-sender")
        ?.map(({ n }) => n),
    ).toEqual([0, 1, 2, 3, 4, 6, 7]);
  });

  test("doesn't split a batch into single commits if all its items are locked briefly", async () => {
    const store = createStore();
    const unlock = store.lock("locked-sender");
    const submissions = createRange(500).map((n) => store.submit(`${n}`, "locked-sender", n));
    setTimeout(unlock, 40);
    expect(await Promise.all(submissions)).toEqual(createRange(500));
    expect(store.batches.length).toBeLessThan(50);
    expect(store.waitingBatches).toEqual([]);
  });
});

describe("a batch", () => {
  test("rejects only the items that can't be stored", async () => {
    const store = createStore();
    for (const n of [3, 77]) store.errorCodes.set(n, INVALID_VALUE);
    const results = await Promise.all(createRange(100).map((n) => store.submit(`${n % 7}`, "a", n)));
    expect(results).toEqual(createRange(100).map((n) => (n === 3 || n === 77 ? INVALID_VALUE : n)));
  });

  test.each([LOCK_TIMEOUT, DEADLOCK])(
    "stores all other items if one item fails with %s, and retries the failed item",
    async (code) => {
      const store = createStore({ laneTimeoutMs: 5_000 });
      store.errorCodes.set(33, code);
      const submissions = createRange(100).map((n) => store.submit(`${n % 7}`, n % 7 === 5 ? `${n}` : "a", n));
      const otherResults = await Promise.all(submissions.filter((_, n) => n !== 33));
      expect(otherResults).toEqual(createRange(100).filter((n) => n !== 33));
      const previousBatches = store.batches.length;
      // Other items continue, and the failed item is never batched with them again.
      expect(await store.submit("5", "other", 100)).toBe(100);
      await Bun.sleep(700);
      expect(
        store.batches
          .slice(previousBatches)
          .flat()
          .map(({ n }) => n),
      ).toEqual([100]);
      expect(store.waitingBatches.length).toBeGreaterThan(0);
      store.errorCodes.clear();
      expect(await submissions[33]).toBe(33);
    },
  );

  test("is split in half if it times out, so that only the slow item and later items from its sender fail", async () => {
    const store = createStore();
    store.errorCodes.set(42, STATEMENT_TIMEOUT);
    const results = await Promise.all(
      createRange(100).map((n) => store.submit(n % 10 === 2 ? "slow" : `${n}`, "a", n)),
    );
    expect(results).toEqual(createRange(100).map((n) => (n >= 42 && n % 10 === 2 ? STATEMENT_TIMEOUT : n)));
    expect(await store.submit("slow", "a", 100)).toBe(100);
  });

  test("fails if the database is shutting down, and so do later items from the same senders", async () => {
    const store = createStore();
    store.errorCodes.set(0, SHUTDOWN);
    const firstSubmission = store.submit("a", "a", 0);
    await Bun.sleep(0);
    const laterItems = [store.submit("a", "a", 1), store.submit("a", "b", 2), store.submit("b", "a", 3)];
    expect(await Promise.all([firstSubmission, ...laterItems])).toEqual([SHUTDOWN, SHUTDOWN, 2, 3]);
  });

  test.each([STATEMENT_TIMEOUT, SHUTDOWN])(
    "that fails with %s in a locked lane makes later items from the same senders fail too",
    async (code) => {
      const store = createStore({ lockTimeoutMs: 500 });
      const unlock = store.lock("locked");
      store.errorCodes.set(0, code);
      const firstSubmission = store.submit("locked", "a", 0);
      await Bun.sleep(150);
      expect(store.waitingBatches).toHaveLength(1);
      const laterItems = [
        store.submit("locked", "a", 1),
        store.submit("locked", "b", 2),
        store.submit("locked", "a", 3),
      ];
      unlock();
      expect(await Promise.all([firstSubmission, ...laterItems])).toEqual([code, code, 2, code]);
      expect(await store.submit("locked", "a", 4)).toBe(4);
    },
  );

  test("has a maximum number of items and bytes", async () => {
    const store = createStore();
    const submissions = Array.from({ length: BATCH_ITEMS_MAX + 1 }, (_, n) =>
      store.commits.submit({ key: "a", sender: "a", n, bytes: n === 0 ? 5_000_000 : 100_000 }),
    );
    await Promise.all(submissions);
    expect(store.batches[0]).toHaveLength(1);
    expect(Math.max(...store.batches.map((batch) => batch.length))).toBeLessThanOrEqual(42);
  });
});

test.each([
  ["items", Array.from({ length: WAITING_ITEMS_MAX }, () => 10)],
  ["bytes", Array.from({ length: 64 }, () => WAITING_BYTES_MAX / 64)],
])("the queues of all lanes share a limit on %s", async (_, sizes) => {
  const store = createStore({ laneTimeoutMs: 1_500 });
  for (const n of createRange(64)) store.lock(`${n}`);
  const submissions = sizes.map((bytes, n) =>
    store.commits.submit({ key: `${n % 64}`, sender: "a", n, bytes }).catch((error: Problem) => error.code),
  );
  await Bun.sleep(100);
  expect(store.commits.countWaiting()).toBe(sizes.length);
  expect(await store.submit("free", "a", 0)).toBe("overloaded");
  await Promise.all(submissions);
  expect(await store.submit("free", "a", 0)).toBe(0);
  expect(store.commits.countWaiting()).toBe(0);
});

test("with random locks and failures, each item completes once and in its sender's order", async () => {
  const [key, sender, ms] = [fc.nat(3), fc.nat(2), fc.nat(12)];
  const stepArbitrary = fc.oneof(
    { weight: 8, arbitrary: fc.record({ kind: fc.constant("send" as const), key, sender }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("lock" as const), name: fc.nat(3).map(String), ms }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("lock" as const), name: fc.nat(2).map((n) => `s${n}`), ms }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("failure" as const),
        key,
        sender,
        code: fc.constantFrom(INVALID_VALUE, LOCK_TIMEOUT, DEADLOCK, STATEMENT_TIMEOUT, SHUTDOWN),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("pause" as const), ms: fc.nat(3) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(stepArbitrary, { minLength: 10, maxLength: 80 }), async (steps) => {
      const store = createStore({ lockTimeoutMs: 4 });
      const pendingKeys = new Map<number, string>();
      /** Items that were queued behind an item when that item failed, and must fail too. */
      const expectedFailures = new Set<number>();
      const failedNumbers = new Set<number>();
      const submissions: Promise<number | string>[] = [];
      for (const [n, step] of steps.entries()) {
        if (step.kind === "pause") await Bun.sleep(step.ms);
        else if (step.kind === "lock") setTimeout(store.lock(step.name), step.ms);
        else {
          const [key, sender] = [`${step.key}`, `s${step.sender}`];
          const senderKey = `${key} ${sender}`;
          if (step.kind === "failure") {
            store.errorCodes.set(n, step.code);
            // Errors caused by locks stop when the locks are released.
            if (step.code === LOCK_TIMEOUT || step.code === DEADLOCK) setTimeout(() => store.errorCodes.delete(n), 20);
          }
          pendingKeys.set(n, senderKey);
          const submission = store.submit(key, sender, n).then((result) => {
            pendingKeys.delete(n);
            if (typeof result === "string") failedNumbers.add(n);
            if (result === STATEMENT_TIMEOUT || result === SHUTDOWN)
              for (const [laterN, laterKey] of pendingKeys)
                if (laterKey === senderKey && laterN > n) expectedFailures.add(laterN);
            return result;
          });
          submissions.push(submission);
        }
      }
      const results = await Promise.all(submissions);
      expect(results.filter((result) => result === LOCK_TIMEOUT || result === "overloaded")).toEqual([]);
      const numbers = results.filter((result) => typeof result === "number");
      expect(store.stored.map(({ n }) => n).sort((a, b) => a - b)).toEqual(numbers.sort((a, b) => a - b));
      expect([...expectedFailures].filter((n) => !failedNumbers.has(n))).toEqual([]);
      expect(store.commits.countWaiting()).toBe(0);
      for (const key of ["0", "1", "2", "3"])
        for (const items of store.groupBySender(key).values())
          expect(items.map(({ n }) => n)).toEqual(items.map(({ n }) => n).sort((a, b) => a - b));
    }),
    { numRuns: scaleRuns(25) },
  );
});
