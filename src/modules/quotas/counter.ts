import { BoundedCache } from "../../cache/bounded-cache.ts";
import type { Problem } from "../../lib/problem.ts";

/** Maximum number of users in memory. Evicted users are counted again. */
const USERS_MAX = 20_000;
/** A count older than this is refreshed in the background, because other instances also store data. */
const COUNT_TTL_MS = 60_000;
/** Maximum time that a request waits for the first count. After that, the request continues without the count. */
const FIRST_COUNT_WAIT_MS = 250;
/** Maximum age of a count that can cause a rejection, as a multiple of the count's duration, because large counts are slow. */
const FRESH_AGE_FACTOR = 20;
const FRESH_AGE_MS_MIN = 100;
const FRESH_AGE_MS_MAX = 10_000;
/** Minimum pause between counts, as a multiple of the count's duration, to limit the database load that a user can cause. */
const PAUSE_FACTOR = 2;

type UserEntry = {
  /** The result of the last count; null before the first count. */
  lastCount: number | null;
  /** The amount stored since that count started. The count may include some of it. */
  addedSinceCount: number;
  /** The amount that is being stored. */
  reserved: number;
  countedAtMs: number;
  countDurationMs: number;
  /** Whether data was deleted since the count. */
  isStale: boolean;
  runningCount: Promise<void> | null;
  /** Whether a count is waiting until the running stores have finished. New stores must wait for the count. */
  isDraining: boolean;
  onIdle: (() => void) | null;
};

type Options = {
  /** The maximum amount; 0 means no limit. */
  limit: number;
  /** Counts the amount that a user has stored. */
  count(userId: string): Promise<number>;
  /** Creates the `quota_exceeded` error. */
  createError(): Problem;
};

/** Enforces the limit of one resource, per user. */
export interface QuotaCounter {
  /**
   * Runs `store` if the user's quota allows `amount` more. Usually needs no query and doesn't wait.
   * @throws Problem `quota_exceeded`, and the errors of `store`.
   */
  reserve<T>(userId: string, amount: number, store: () => Promise<T>): Promise<T>;

  /** Checks that the user's quota currently allows `amount` more. @throws Problem `quota_exceeded`. */
  check(userId: string, amount: number): Promise<void>;

  /** Returns the amount that a user has stored. */
  getUsed(userId: string): Promise<number>;

  /** Call this after a deletion. The user's data is then counted again before a request is rejected. */
  invalidate(userId: string): void;
}

/**
 * Creates a counter. It keeps an upper bound per user: the last count plus everything stored since then. If that exceeds the limit,
 * the user's data is counted again while stores are paused. Therefore, users below the limit are never rejected, and users can't
 * exceed the limit on one instance. Data stored by other instances is noticed within a minute.
 */
export function createQuotaCounter({ limit, count, createError }: Options): QuotaCounter {
  const entries = new BoundedCache<UserEntry>({ maxSize: USERS_MAX });

  function getEntry(userId: string): UserEntry {
    const existingEntry = entries.get(userId);
    if (existingEntry) return existingEntry;
    const entry: UserEntry = {
      ...{ lastCount: null, addedSinceCount: 0, reserved: 0, countedAtMs: 0, countDurationMs: 0, isStale: false },
      ...{ runningCount: null, isDraining: false, onIdle: null },
    };
    entries.set(userId, entry);
    return entry;
  }

  const isWithinLimit = ({ lastCount, addedSinceCount, reserved, isDraining }: UserEntry, amount: number) =>
    !isDraining && lastCount !== null && lastCount + addedSinceCount + reserved + amount <= limit;

  const getAgeMs = ({ countedAtMs }: UserEntry) => performance.now() - countedAtMs;

  const isFresh = (entry: UserEntry) =>
    !entry.isStale &&
    getAgeMs(entry) < Math.min(FRESH_AGE_MS_MAX, Math.max(FRESH_AGE_MS_MIN, entry.countDurationMs * FRESH_AGE_FACTOR));

  async function countNow(userId: string, entry: UserEntry): Promise<void> {
    if (entry.isDraining && entry.reserved > 0)
      await new Promise<void>((resolve) => {
        entry.onIdle = resolve;
      });
    const pauseMs = entry.countDurationMs * PAUSE_FACTOR - getAgeMs(entry);
    if (pauseMs > 0) await Bun.sleep(pauseMs);
    const addedBefore = entry.addedSinceCount;
    entry.isStale = false;
    const startedAtMs = performance.now();
    entry.lastCount = await count(userId);
    entry.addedSinceCount -= addedBefore;
    entry.countedAtMs = performance.now();
    entry.countDurationMs = entry.countedAtMs - startedAtMs;
  }

  /** Starts a count. Only one count may run per user. */
  function startCount(userId: string, entry: UserEntry, isDraining: boolean): Promise<void> {
    entry.isDraining = isDraining;
    entry.runningCount = countNow(userId, entry).finally(() => {
      entry.runningCount = null;
      entry.isDraining = false;
    });
    return entry.runningCount;
  }

  const joinOrStartCount = (userId: string, entry: UserEntry, isDraining: boolean): Promise<void> =>
    entry.runningCount ?? startCount(userId, entry, isDraining);

  async function storeReserved<T>(entry: UserEntry, amount: number, store: () => Promise<T>): Promise<T> {
    try {
      const result = await store();
      entry.addedSinceCount += amount;
      return result;
    } finally {
      release(entry, amount);
    }
  }

  function release(entry: UserEntry, amount: number): void {
    entry.reserved -= amount;
    if (entry.reserved === 0) entry.onIdle?.();
  }

  /** Reserves `amount`, after a new count if necessary. @throws Problem `quota_exceeded`. */
  async function reserveAfterCount(userId: string, amount: number): Promise<UserEntry> {
    for (;;) {
      const entry = getEntry(userId);
      const isFirstCount = entry.lastCount === null;
      // If the first count is slow or fails, the request is allowed.
      const isCountMissing = isFirstCount && !(await isFulfilledInTime(joinOrStartCount(userId, entry, false)));
      if (isWithinLimit(entry, amount) || (isCountMissing && entry.lastCount === null)) {
        entry.reserved += amount;
        return entry;
      }
      if (isFirstCount) continue;
      const isExact = !entry.runningCount && entry.addedSinceCount === 0 && entry.reserved === 0;
      if (isExact && isFresh(entry)) throw createError();
      await joinOrStartCount(userId, entry, true);
    }
  }

  /** Reserves `amount` synchronously if it fits; otherwise returns a promise. */
  function reserveAmount(userId: string, amount: number): UserEntry | Promise<UserEntry> {
    const entry = getEntry(userId);
    if (!isWithinLimit(entry, amount)) return reserveAfterCount(userId, amount);
    if (!entry.runningCount && getAgeMs(entry) > COUNT_TTL_MS) startCount(userId, entry, false).catch(() => {});
    entry.reserved += amount;
    return entry;
  }

  return {
    async reserve(userId, amount, store) {
      if (limit === 0) return store();
      const reservation = reserveAmount(userId, amount);
      // Both paths then await the same number of times, so that the messages of a batch are acknowledged in order.
      return storeReserved(reservation instanceof Promise ? await reservation : reservation, amount, store);
    },

    async check(userId, amount) {
      if (limit === 0 || isWithinLimit(getEntry(userId), amount)) return;
      release(await reserveAfterCount(userId, amount), amount);
    },

    async getUsed(userId) {
      const entry = getEntry(userId);
      if (entry.lastCount === null || !isFresh(entry)) await joinOrStartCount(userId, entry, false);
      return (entry.lastCount ?? 0) + entry.addedSinceCount;
    },

    invalidate(userId) {
      const entry = entries.get(userId);
      if (entry) entry.isStale = true;
    },
  };
}

/** Returns whether the promise resolves within FIRST_COUNT_WAIT_MS. */
async function isFulfilledInTime(work: Promise<void>): Promise<boolean> {
  let timer: Timer | undefined;
  const timeoutResult = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), FIRST_COUNT_WAIT_MS);
  });
  const workResult = work.then(
    () => true,
    () => false,
  );
  return Promise.race([workResult, timeoutResult]).finally(() => clearTimeout(timer));
}
