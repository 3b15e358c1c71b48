import { BoundedCache } from "../cache/bounded-cache.ts";
import type { Problem } from "../lib/problem.ts";
import { Slots } from "./slots.ts";

/** Maximum number of users whose counts are cached. An evicted count starts at zero again. */
const USERS_MAX = 20_000;

type Options = {
  /** Maximum number of answers in progress per user, or 0 for no limit. */
  answersMax: number;
  /** Counts a user's stored answers in progress on all instances. */
  countStoredAnswers(userId: string): Promise<number>;
  onRejected(): void;
};

/** Limits each user's model answers in progress. */
export interface AnswerLimit {
  /** Calls `store` to store an answer, if the limit allows it. @throws Problem `rate_limited`, or the errors of `store`. */
  store<T>(userId: string, store: () => Promise<T>): Promise<T>;

  /**
   * Checks the limit for a message that a model may answer. If a model answers it, call `countAnswer`. Usually synchronous.
   * @throws Problem `rate_limited`.
   */
  checkLimit(userId: string): Promise<void> | undefined;
  countAnswer(userId: string): void;

  /** Counts an answer that isn't stored. Returns a function to call when it ends. @throws Problem `rate_limited`. */
  reserve(userId: string): Promise<() => void>;
}

/**
 * Creates the limit. It uses an upper bound for each user instead of an exact count: the last count from the database plus the
 * answers started on this instance since then. The count is queried again only if the bound reaches the limit, so most answers
 * start without a query.
 */
export function createAnswerLimit({ answersMax, countStoredAnswers, onRejected }: Options): AnswerLimit {
  /** Answers for OpenAI clients, which aren't stored. */
  const ephemeralAnswers = new Slots({ slotsMax: 0, resources: "answers", onRejected });
  const storedLimit = new Slots({ slotsMax: answersMax, resources: "model answers in progress", onRejected });
  const upperBounds = new BoundedCache<number>({ maxSize: USERS_MAX });
  const pendingCounts = new Map<string, Promise<void>>();
  /** Answers that are being stored and that the database doesn't count yet. */
  const storesInProgress = new Map<string, Set<Promise<unknown>>>();

  const isBelowLimit = (userId: string) =>
    (upperBounds.get(userId) ?? 0) + ephemeralAnswers.countSlots(userId) < answersMax;

  /** Queries the count again. Concurrent callers share one query. */
  function refreshCount(userId: string): Promise<void> {
    const runningQuery = pendingCounts.get(userId);
    if (runningQuery) return runningQuery;
    const query = queryCount(userId).finally(() => pendingCounts.delete(userId));
    pendingCounts.set(userId, query);
    return query;
  }

  async function queryCount(userId: string): Promise<void> {
    // The bound is at the limit, so no answers start during the query.
    await Promise.allSettled(storesInProgress.get(userId) ?? []);
    upperBounds.set(userId, await countStoredAnswers(userId));
  }

  function trackStore(userId: string, stored: Promise<unknown>): void {
    const userStores = storesInProgress.get(userId) ?? new Set();
    storesInProgress.set(userId, userStores.add(stored));
    const remove = () => {
      userStores.delete(stored);
      if (userStores.size === 0) storesInProgress.delete(userId);
    };
    stored.then(remove, remove);
  }

  async function refreshAndAcquire(userId: string, acquire: () => void): Promise<void> {
    await refreshCount(userId);
    if (!isBelowLimit(userId)) throw createRejection();
    acquire();
  }

  const createRejection = (): Problem => storedLimit.countRejection();
  const incrementBound = (userId: string) => void upperBounds.set(userId, (upperBounds.get(userId) ?? 0) + 1);

  /** Calls `acquire` if the limit allows it. Synchronous, unless the user may have reached the limit. */
  function admit(userId: string, acquire: () => void): Promise<void> | undefined {
    if (answersMax > 0 && !isBelowLimit(userId)) return refreshAndAcquire(userId, acquire);
    acquire();
    return undefined;
  }

  return {
    async store(userId, store) {
      const pending = admit(userId, () => incrementBound(userId));
      if (pending) await pending;
      const stored = store();
      trackStore(userId, stored);
      return stored;
    },

    checkLimit: (userId) => admit(userId, () => {}),
    countAnswer: incrementBound,

    async reserve(userId) {
      let release = () => {};
      const pending = admit(userId, () => {
        release = ephemeralAnswers.acquire(userId);
      });
      if (pending) await pending;
      return () => release();
    },
  };
}
