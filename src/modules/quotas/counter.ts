import { BoundedCache } from "../../cache/bounded-cache.ts";
import type { Problem } from "../../lib/problem.ts";

/** Users that are remembered; whoever is forgotten is counted again. */
const USERS_MAX = 20_000;
/** A count that is older is renewed in the background: other instances add to it as well. */
const COUNT_KEPT_MS = 60_000;
/** How long a first count may delay what it is for; later it goes on without it. */
const FIRST_COUNT_WAIT_MS = 250;
/** How long a count is good enough to refuse by, in multiples of the time it took; for a user who has much it takes long. */
const FRESH_FACTOR = 20;
const FRESH_MS_MIN = 100;
const FRESH_MS_MAX = 10_000;
/** How long the next count waits at least, in the same measure: nobody can keep the database busy with counting. */
const PAUSE_FACTOR = 2;

type Entry = {
  /** By the last count; null: not counted yet. */
  counted: number | null;
  /** What was stored since that count began; the count may include it. */
  added: number;
  /** What is being stored now. */
  pending: number;
  countedAtMs: number;
  tookMs: number;
  /** Whether something was deleted since. */
  isStale: boolean;
  counting: Promise<void> | null;
  /** Whether the count waits until nothing is being stored; nothing new begins meanwhile. */
  isDraining: boolean;
  onIdle: (() => void) | null;
};

type Options = {
  /** 0: no limit. */
  limit: number;
  /** How much a user has stored, exactly. */
  count(userId: string): Promise<number>;
  /** The error for what has no room. */
  refuse(): Problem;
};

/** How much each user has stored of one thing. */
export interface QuotaCounter {
  /**
   * Runs `store`, if the user may have so much more. As a rule nothing is counted and nothing is waited for.
   * @throws Problem `quota_exceeded`, and what `store` throws.
   */
  take<T>(userId: string, amount: number, store: () => Promise<T>): Promise<T>;

  /** Whether the user may have so much more now. @throws Problem `quota_exceeded`. */
  check(userId: string, amount: number): Promise<void>;

  /** How much a user has stored. */
  read(userId: string): Promise<number>;

  /** After something was deleted: the user is counted again before anything is refused. */
  invalidate(userId: string): void;
}

/**
 * Keeps an upper bound for each user: the last count and all that was stored since. Only if that exceeds the limit, the user
 * is counted again, without anything being stored meanwhile; so nobody is refused who has room, and on one instance nobody
 * gets past the limit. What other instances add is seen within a minute.
 */
export function createQuotaCounter({ limit, count, refuse }: Options): QuotaCounter {
  const entries = new BoundedCache<Entry>({ max: USERS_MAX });

  function find(userId: string): Entry {
    const known = entries.get(userId);
    if (known) return known;
    const entry: Entry = {
      ...{ counted: null, added: 0, pending: 0, countedAtMs: 0, tookMs: 0, isStale: false },
      ...{ counting: null, isDraining: false, onIdle: null },
    };
    entries.set(userId, entry);
    return entry;
  }

  const hasRoom = ({ counted, added, pending, isDraining }: Entry, amount: number) =>
    !isDraining && counted !== null && counted + added + pending + amount <= limit;

  const ageOf = ({ countedAtMs }: Entry) => performance.now() - countedAtMs;

  const isFresh = (entry: Entry) =>
    !entry.isStale && ageOf(entry) < Math.min(FRESH_MS_MAX, Math.max(FRESH_MS_MIN, entry.tookMs * FRESH_FACTOR));

  async function countNow(userId: string, entry: Entry): Promise<void> {
    if (entry.isDraining && entry.pending > 0)
      await new Promise<void>((resolve) => {
        entry.onIdle = resolve;
      });
    const pauseMs = entry.tookMs * PAUSE_FACTOR - ageOf(entry);
    if (pauseMs > 0) await Bun.sleep(pauseMs);
    const addedBefore = entry.added;
    entry.isStale = false;
    const startedAtMs = performance.now();
    entry.counted = await count(userId);
    entry.added -= addedBefore;
    entry.countedAtMs = performance.now();
    entry.tookMs = entry.countedAtMs - startedAtMs;
  }

  /** One count at a time. */
  function startCount(userId: string, entry: Entry, isDraining: boolean): Promise<void> {
    entry.isDraining = isDraining;
    entry.counting = countNow(userId, entry).finally(() => {
      entry.counting = null;
      entry.isDraining = false;
    });
    return entry.counting;
  }

  const recount = (userId: string, entry: Entry, isDraining: boolean): Promise<void> =>
    entry.counting ?? startCount(userId, entry, isDraining);

  async function storePending<T>(entry: Entry, amount: number, store: () => Promise<T>): Promise<T> {
    try {
      const stored = await store();
      entry.added += amount;
      return stored;
    } finally {
      leave(entry, amount);
    }
  }

  function leave(entry: Entry, amount: number): void {
    entry.pending -= amount;
    if (entry.pending === 0) entry.onIdle?.();
  }

  /** Takes room for `amount` in the moment in which there is some. @throws Problem `quota_exceeded`. */
  async function waitForRoom(userId: string, amount: number): Promise<Entry> {
    for (;;) {
      const entry = find(userId);
      const isFirst = entry.counted === null;
      // If it cannot be counted now, it is not the time to refuse anything.
      const isLate = isFirst && !(await isDoneInTime(recount(userId, entry, false)));
      if (hasRoom(entry, amount) || (isLate && entry.counted === null)) {
        entry.pending += amount;
        return entry;
      }
      if (isFirst) continue;
      if (!entry.counting && entry.added === 0 && entry.pending === 0 && isFresh(entry)) throw refuse();
      await recount(userId, entry, true);
    }
  }

  /** Takes room at once where there is some; otherwise a promise of it. */
  function enter(userId: string, amount: number): Entry | Promise<Entry> {
    const entry = find(userId);
    if (!hasRoom(entry, amount)) return waitForRoom(userId, amount);
    if (!entry.counting && ageOf(entry) > COUNT_KEPT_MS) startCount(userId, entry, false).catch(() => {});
    entry.pending += amount;
    return entry;
  }

  return {
    async take(userId, amount, store) {
      if (limit === 0) return store();
      const entered = enter(userId, amount);
      // From here on the same steps, whether it has waited or not: what is stored together is answered in its order.
      return storePending(entered instanceof Promise ? await entered : entered, amount, store);
    },

    async check(userId, amount) {
      if (limit === 0 || hasRoom(find(userId), amount)) return;
      leave(await waitForRoom(userId, amount), amount);
    },

    async read(userId) {
      const entry = find(userId);
      if (entry.counted === null || !isFresh(entry)) await recount(userId, entry, false);
      return (entry.counted ?? 0) + entry.added;
    },

    invalidate(userId) {
      const entry = entries.get(userId);
      if (entry) entry.isStale = true;
    },
  };
}

/** Whether it fulfils before FIRST_COUNT_WAIT_MS are over. */
async function isDoneInTime(work: Promise<void>): Promise<boolean> {
  let timer: Timer | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), FIRST_COUNT_WAIT_MS);
  });
  const done = work.then(
    () => true,
    () => false,
  );
  return Promise.race([done, late]).finally(() => clearTimeout(timer));
}
