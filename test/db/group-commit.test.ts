import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import postgres from "postgres";
import {
  BATCH_ITEMS_MAX,
  createGroupCommit,
  LANE_ITEMS_MAX,
  LANES_WAITING_MAX,
  LOCKED,
} from "../../src/db/group-commit.ts";
import { Problem } from "../../src/lib/problem.ts";

type Item = { key: string; sender: string; n: number; bytes?: number };

const lockTimeout = () => Object.assign(new postgres.PostgresError("lock timeout"), { code: "55P03" });
const badRow = () => Object.assign(new postgres.PostgresError("bad row"), { code: "22021" });

/** A store in memory, some of whose conversations are locked by somebody else. */
function createStore({ lockTimeoutMs = 20 } = {}) {
  const stored: Item[] = [];
  const locked = new Map<string, Promise<void>>();
  const poisoned = new Set<number>();
  const batches: Item[][] = [];
  let waiting = 0;
  let waitingMax = 0;
  const write = (items: Item[]) => {
    if (items.some(({ n }) => poisoned.has(n))) throw badRow();
    stored.push(...items);
  };
  const commits = createGroupCommit<Item, number>({
    keyOf: ({ key }) => key,
    senderOf: ({ sender }) => sender,
    bytesOf: ({ bytes = 10 }) => bytes,
    async commit(items) {
      batches.push(items);
      await Bun.sleep(1);
      const free = items.filter(({ key }) => !locked.has(key));
      write(free);
      return items.map((item) => (free.includes(item) ? item.n : LOCKED));
    },
    async commitWaiting(items) {
      waiting += 1;
      waitingMax = Math.max(waitingMax, waiting);
      const key = items[0]?.key ?? "";
      try {
        await Promise.race([locked.get(key), Bun.sleep(lockTimeoutMs)]);
        if (locked.has(key)) throw lockTimeout();
        await Bun.sleep(1);
        write(items);
        return items.map(({ n }) => n);
      } finally {
        waiting -= 1;
      }
    },
  });
  return {
    commits,
    stored,
    batches,
    poisoned,
    waitingMax: () => waitingMax,
    /** @returns unlocks it. */
    lock(key: string): () => void {
      const { promise, resolve } = Promise.withResolvers<void>();
      locked.set(key, promise);
      return () => {
        locked.delete(key);
        resolve();
      };
    },
    ordersOf: (key: string) =>
      Map.groupBy(
        stored.filter((item) => item.key === key),
        ({ sender }) => sender,
      ),
  };
}

describe("a locked conversation", () => {
  test("holds up nobody else, and gets all that waited for it in order", async () => {
    const store = createStore();
    const unlock = store.lock("locked");
    const late = Array.from({ length: 50 }, (_, n) => store.commits.submit({ key: "locked", sender: "a", n }));
    for (let n = 100; n < 200; n += 1) expect(await store.commits.submit({ key: "free", sender: "a", n })).toBe(n);
    late.push(store.commits.submit({ key: "locked", sender: "a", n: 50 }));
    expect(store.stored.filter(({ key }) => key === "locked")).toEqual([]);
    unlock();
    expect(await Promise.all(late)).toEqual(Array.from({ length: 51 }, (_, n) => n));
    expect(
      store
        .ordersOf("locked")
        .get("a")
        ?.map(({ n }) => n),
    ).toEqual(Array.from({ length: 51 }, (_, n) => n));
    expect(store.commits.waiting()).toBe(0);
  });

  test("takes few connections, however many there are, and each has its turn", async () => {
    const store = createStore({ lockTimeoutMs: 5 });
    const unlocks = Array.from({ length: 20 }, (_, n) => store.lock(`${n}`));
    const all = Array.from({ length: 20 }, (_, n) => store.commits.submit({ key: `${n}`, sender: "a", n }));
    await Bun.sleep(50);
    unlocks.at(-1)?.();
    // The last one is free: it comes to its turn while all others are still locked.
    expect(await all.at(-1)).toBe(19);
    for (const unlock of unlocks) unlock();
    await Promise.all(all);
    expect(store.waitingMax()).toBe(LANES_WAITING_MAX);
  });

  test("is bounded: what comes beyond is refused for now", async () => {
    const store = createStore();
    const unlock = store.lock("locked");
    const all = Array.from({ length: LANE_ITEMS_MAX + 5 }, (_, n) =>
      store.commits.submit({ key: "locked", sender: "a", n }).catch((error: unknown) => error),
    );
    await Bun.sleep(30);
    unlock();
    const refused = (await Promise.all(all)).filter((result) => result instanceof Problem);
    expect(refused).toHaveLength(5);
    expect(refused[0]).toMatchObject({ code: "overloaded", retryAfterMs: 1_000 });
  });
});

describe("a batch", () => {
  test("with an item that cannot be stored writes all others, and fails that one alone", async () => {
    const store = createStore();
    for (const n of [3, 77]) store.poisoned.add(n);
    const all = Array.from({ length: 100 }, (_, n) =>
      store.commits.submit({ key: `${n % 7}`, sender: "a", n }).catch((error: { code?: string }) => error.code),
    );
    const results = await Promise.all(all);
    expect(results).toEqual(Array.from({ length: 100 }, (_, n) => (n === 3 || n === 77 ? "22021" : n)));
  });

  test("is bounded by items and by bytes", async () => {
    const store = createStore();
    const all = Array.from({ length: BATCH_ITEMS_MAX + 1 }, (_, n) =>
      store.commits.submit({ key: "a", sender: "a", n, bytes: n === 0 ? 5_000_000 : 100_000 }),
    );
    await Promise.all(all);
    expect(store.batches[0]).toHaveLength(1);
    expect(Math.max(...store.batches.map((batch) => batch.length))).toBeLessThanOrEqual(42);
  });
});

test("whatever is locked and whatever fails: each item ends once, and a sender's items keep their order", async () => {
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.record({ kind: fc.constant("send" as const), key: fc.nat(3), sender: fc.nat(2) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("lock" as const), key: fc.nat(3), ms: fc.nat(12) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("poison" as const), key: fc.nat(3), sender: fc.nat(2) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("pause" as const), ms: fc.nat(3) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 80 }), async (steps) => {
      const store = createStore({ lockTimeoutMs: 4 });
      const ends: Promise<number | string>[] = [];
      for (const [n, one] of steps.entries()) {
        if (one.kind === "pause") await Bun.sleep(one.ms);
        else if (one.kind === "lock") setTimeout(store.lock(`${one.key}`), one.ms);
        else {
          if (one.kind === "poison") store.poisoned.add(n);
          const item = { key: `${one.key}`, sender: `${one.sender}`, n };
          ends.push(store.commits.submit(item).catch((error: { code: string }) => error.code));
        }
      }
      const results = await Promise.all(ends);
      expect(results.filter((result) => typeof result === "string" && result !== "22021")).toEqual([]);
      const numbers = results.filter((result) => typeof result === "number");
      expect(store.stored.map(({ n }) => n).sort((a, b) => a - b)).toEqual(numbers.sort((a, b) => a - b));
      for (const key of ["0", "1", "2", "3"])
        for (const items of store.ordersOf(key).values())
          expect(items.map(({ n }) => n)).toEqual(items.map(({ n }) => n).sort((a, b) => a - b));
    }),
    { numRuns: 60 },
  );
}, 20_000);
