import { BoundedCache } from "../../cache/bounded-cache.ts";
import type { Problem } from "../../lib/problem.ts";

/** Users in memory; evicted users are counted again. */
const USERS_MAX = 20_000;
/** Older counts are renewed in the background, because other instances add to them as well. */
const COUNT_TTL_MS = 60_000;
/** How long a first count may delay a request; then the request continues without it. */
const FIRST_COUNT_WAIT_MS = 250;
/** How long a count may be used to refuse requests, as a multiple of its duration: counting is slow for large users. */
const FRESH_FACTOR = 20;
const FRESH_MS_MIN = 100;
const FRESH_MS_MAX = 10_000;
/** Minimum pause between counts, in the same unit, so that nobody can keep the database busy with counting. */
const PAUSE_FACTOR = 2;

type Entry = {
  /** By the last count; null: not counted yet. */
  counted: number | null;
  /** Stored since that count began; the count may already include it. */
  added: number;
  /** Being stored now. */
  pending: number;
  countedAtMs: number;
  tookMs: number;
  /** Whether something was deleted since the count. */
  isStale: boolean;
  counting: Promise<void> | null;
  /** Whether the count waits for current stores to finish; new ones wait meanwhile. */
  isDraining: boolean;
  onIdle: (() => void) | null;
};

type Options = {
  /** 0: no limit. */
  limit: number;
  /** Counts exactly what a user has stored. */
  count(userId: string): Promise<number>;
  /** Creates the error for an exceeded limit. */
  refuse(): Problem;
};

/** Stored amounts of one resource, per user. */
export interface QuotaCounter {
  /**
   * Runs `store` if the user has room for `amount` more. Usually without a count or a wait.
   * @throws Problem `quota_exceeded`, and what `store` throws.
   */
  take<T>(userId: string, amount: number, store: () => Promise<T>): Promise<T>;

  /** Checks whether the user has room for `amount` more now. @throws Problem `quota_exceeded`. */
  check(userId: string, amount: number): Promise<void>;

  /** The amount a user has stored. */
  read(userId: string): Promise<number>;

  /** After a deletion: the user is counted again before anything is refused. */
  invalidate(userId: string): void;
}

/**
 * Keeps an upper bound per user: the last count plus everything stored since. Only if that exceeds the limit, the user is
 * counted again, with stores paused. So nobody with room is refused, and on one instance nobody exceeds the limit.
 * Additions by other instances are seen within a minute.
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

  /** Reserves room for `amount` as soon as there is some. @throws Problem `quota_exceeded`. */
  async function waitForRoom(userId: string, amount: number): Promise<Entry> {
    for (;;) {
      const entry = find(userId);
      const isFirst = entry.counted === null;
      // If counting fails, don't refuse anything.
      const isSlow = isFirst && !(await isDoneInTime(recount(userId, entry, false)));
      if (hasRoom(entry, amount) || (isSlow && entry.counted === null)) {
        entry.pending += amount;
        return entry;
      }
      if (isFirst) continue;
      if (!entry.counting && entry.added === 0 && entry.pending === 0 && isFresh(entry)) throw refuse();
      await recount(userId, entry, true);
    }
  }

  /** Reserves room immediately if there is some; otherwise returns a promise of it. */
  function enter(userId: string, amount: number): Entry | Promise<Entry> {
    const entry = find(userId);
    if (!hasRoom(entry, amount)) return waitForRoom(userId, amount);
    if (!entry.counting && ageOf(entry) > COUNT_TTL_MS) startCount(userId, entry, false).catch(() => {});
    entry.pending += amount;
    return entry;
  }

  return {
    async take(userId, amount, store) {
      if (limit === 0) return store();
      const entered = enter(userId, amount);
      // From here on, take the same steps with or without waiting: batched messages are acknowledged in order.
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

/** Whether the promise resolves within FIRST_COUNT_WAIT_MS. */
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
