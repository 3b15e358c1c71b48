import { BoundedCache } from "../../cache/bounded-cache.ts";
import type { Problem } from "../../lib/problem.ts";

/** Maximum users in memory; evicted users are counted again. */
const USERS_MAX = 20_000;
/** Older counts are refreshed in the background, because other instances store data as well. */
const COUNT_TTL_MS = 60_000;
/** How long the first count may delay a request; after that, the request continues without it. */
const FIRST_COUNT_WAIT_MS = 250;
/**
 * How long a count may be used to refuse requests, as a multiple of its duration, because counting is slow for users
 * with much data.
 */
const FRESH_FACTOR = 20;
const FRESH_MS_MIN = 100;
const FRESH_MS_MAX = 10_000;
/**
 * Minimum pause between counts, as a multiple of the count's duration, so that no user can keep the database busy with
 * counting.
 */
const PAUSE_FACTOR = 2;

type Entry = {
  /** The result of the last count; null if not counted yet. */
  counted: number | null;
  /** The amount stored since that count began, which may already include it. */
  addedSinceCount: number;
  /** The amount being stored now. */
  pending: number;
  countedAtMs: number;
  countDurationMs: number;
  /** Whether data was deleted since the count. */
  isStale: boolean;
  counting: Promise<void> | null;
  /** Whether a count is waiting for running stores to finish; new ones are paused meanwhile. */
  isDraining: boolean;
  onIdle: (() => void) | null;
};

type Options = {
  /** 0 for no limit. */
  limit: number;
  /** Counts the exact amount that a user has stored. */
  count(userId: string): Promise<number>;
  /** Creates the error for an exceeded limit. */
  createError(): Problem;
};

/** Enforces the limit of one resource, per user. */
export interface QuotaCounter {
  /**
   * Runs `store` if `amount` more fits in the user's quota. Usually needs no query and doesn't wait.
   * @throws Problem `quota_exceeded`, and what `store` throws.
   */
  reserve<T>(userId: string, amount: number, store: () => Promise<T>): Promise<T>;

  /** Checks whether `amount` more fits in the user's quota now. @throws Problem `quota_exceeded`. */
  check(userId: string, amount: number): Promise<void>;

  /** Returns the amount that a user has stored. */
  read(userId: string): Promise<number>;

  /** Call this after a deletion: the user is counted again before anything is refused. */
  invalidate(userId: string): void;
}

/**
 * Keeps an upper bound per user: the last count plus everything stored since. Only if that exceeds the limit, the
 * user's data is counted again, with stores paused. So no user below the limit is refused, and on one instance no user
 * exceeds it. Data stored by other instances is noticed within a minute.
 */
export function createQuotaCounter({ limit, count, createError }: Options): QuotaCounter {
  const entries = new BoundedCache<Entry>({ max: USERS_MAX });

  function getEntry(userId: string): Entry {
    const known = entries.get(userId);
    if (known) return known;
    const entry: Entry = {
      ...{ counted: null, addedSinceCount: 0, pending: 0, countedAtMs: 0, countDurationMs: 0, isStale: false },
      ...{ counting: null, isDraining: false, onIdle: null },
    };
    entries.set(userId, entry);
    return entry;
  }

  const hasRoom = ({ counted, addedSinceCount, pending, isDraining }: Entry, amount: number) =>
    !isDraining && counted !== null && counted + addedSinceCount + pending + amount <= limit;

  const ageOf = ({ countedAtMs }: Entry) => performance.now() - countedAtMs;

  const isFresh = (entry: Entry) =>
    !entry.isStale &&
    ageOf(entry) < Math.min(FRESH_MS_MAX, Math.max(FRESH_MS_MIN, entry.countDurationMs * FRESH_FACTOR));

  async function countNow(userId: string, entry: Entry): Promise<void> {
    if (entry.isDraining && entry.pending > 0)
      await new Promise<void>((resolve) => {
        entry.onIdle = resolve;
      });
    const pauseMs = entry.countDurationMs * PAUSE_FACTOR - ageOf(entry);
    if (pauseMs > 0) await Bun.sleep(pauseMs);
    const addedBefore = entry.addedSinceCount;
    entry.isStale = false;
    const startedAtMs = performance.now();
    entry.counted = await count(userId);
    entry.addedSinceCount -= addedBefore;
    entry.countedAtMs = performance.now();
    entry.countDurationMs = entry.countedAtMs - startedAtMs;
  }

  /** Starts a count. Only one may run at a time per user. */
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
      entry.addedSinceCount += amount;
      return stored;
    } finally {
      release(entry, amount);
    }
  }

  function release(entry: Entry, amount: number): void {
    entry.pending -= amount;
    if (entry.pending === 0) entry.onIdle?.();
  }

  /** Reserves `amount` as soon as it fits. @throws Problem `quota_exceeded`. */
  async function waitAndReserve(userId: string, amount: number): Promise<Entry> {
    for (;;) {
      const entry = getEntry(userId);
      const isFirst = entry.counted === null;
      // If counting fails, nothing is refused.
      const isSlow = isFirst && !(await isDoneInTime(recount(userId, entry, false)));
      if (hasRoom(entry, amount) || (isSlow && entry.counted === null)) {
        entry.pending += amount;
        return entry;
      }
      if (isFirst) continue;
      if (!entry.counting && entry.addedSinceCount === 0 && entry.pending === 0 && isFresh(entry)) throw createError();
      await recount(userId, entry, true);
    }
  }

  /** Reserves `amount` immediately if it fits; otherwise returns a promise of the reservation. */
  function reserveAmount(userId: string, amount: number): Entry | Promise<Entry> {
    const entry = getEntry(userId);
    if (!hasRoom(entry, amount)) return waitAndReserve(userId, amount);
    if (!entry.counting && ageOf(entry) > COUNT_TTL_MS) startCount(userId, entry, false).catch(() => {});
    entry.pending += amount;
    return entry;
  }

  return {
    async reserve(userId, amount, store) {
      if (limit === 0) return store();
      const reserved = reserveAmount(userId, amount);
      // From here on, both paths take the same number of async steps, so that messages of a batch are acknowledged in
      // order.
      return storePending(reserved instanceof Promise ? await reserved : reserved, amount, store);
    },

    async check(userId, amount) {
      if (limit === 0 || hasRoom(getEntry(userId), amount)) return;
      release(await waitAndReserve(userId, amount), amount);
    },

    async read(userId) {
      const entry = getEntry(userId);
      if (entry.counted === null || !isFresh(entry)) await recount(userId, entry, false);
      return (entry.counted ?? 0) + entry.addedSinceCount;
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
  const timeout = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), FIRST_COUNT_WAIT_MS);
  });
  const done = work.then(
    () => true,
    () => false,
  );
  return Promise.race([done, timeout]).finally(() => clearTimeout(timer));
}
