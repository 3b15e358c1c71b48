import { BoundedCache } from "../cache/bounded-cache.ts";
import type { Problem } from "../lib/problem.ts";
import { Slots } from "./slots.ts";

/** The maximum number of users whose counts are cached. If evicted, a count starts at zero again. */
const USERS_MAX = 20_000;

type Options = {
  /** The maximum number of answers in progress per user; 0: no limit. */
  answersMax: number;
  /** Counts a user's stored answers that haven't ended, on all instances. */
  countStored(userId: string): Promise<number>;
  onRefused(): void;
};

/** Limits the model answers in progress of each user. */
export interface AnswerLimit {
  /** Stores an answer if the limit allows it. @throws Problem `rate_limited`, and what `store` throws. */
  store<T>(userId: string, store: () => Promise<T>): Promise<T>;

  /**
   * Checks the limit for a message that might be answered. If it is, call `count`. Usually synchronous.
   * @throws Problem `rate_limited`.
   */
  check(userId: string): Promise<void> | undefined;
  count(userId: string): void;

  /** Counts an answer that isn't stored. @returns a function to call when it ends. @throws Problem `rate_limited`. */
  reserve(userId: string): Promise<() => void>;
}

/**
 * Keeps an upper bound for each user instead of an exact count: the last count from the database, plus all answers begun since
 * then. The count is read again only if the bound reaches the limit, so most answers begin without a query. Answers begun on
 * other instances are included at the next read.
 */
export function createAnswerLimit({ answersMax, countStored, onRefused }: Options): AnswerLimit {
  /** Answers that aren't stored, which are those for OpenAI clients. */
  const ephemeral = new Slots({ slotsMax: 0, what: "answers", onRefused });
  const refusals = new Slots({ slotsMax: answersMax, what: "model answers in progress", onRefused });
  const upperBounds = new BoundedCache<number>({ max: USERS_MAX });
  const pendingCounts = new Map<string, Promise<void>>();
  /** Answers that are being stored, which the database doesn't count yet. */
  const storing = new Map<string, Set<Promise<unknown>>>();

  const isBelowLimit = (userId: string) => (upperBounds.get(userId) ?? 0) + ephemeral.count(userId) < answersMax;

  /** Reads the count again. Concurrent callers share one read. */
  function refreshCount(userId: string): Promise<void> {
    const running = pendingCounts.get(userId);
    if (running) return running;
    const started = countAll(userId).finally(() => pendingCounts.delete(userId));
    pendingCounts.set(userId, started);
    return started;
  }

  async function countAll(userId: string): Promise<void> {
    // No answer begins during the read, because the bound is at the limit, so callers wait for the read.
    await Promise.allSettled(storing.get(userId) ?? []);
    upperBounds.set(userId, await countStored(userId));
  }

  function remember(userId: string, stored: Promise<unknown>): void {
    const all = storing.get(userId) ?? new Set();
    storing.set(userId, all.add(stored));
    const forget = () => {
      all.delete(stored);
      if (all.size === 0) storing.delete(userId);
    };
    stored.then(forget, forget);
  }

  async function refreshAndTake(userId: string, take: () => void): Promise<void> {
    await refreshCount(userId);
    if (!isBelowLimit(userId)) throw refuse();
    take();
  }

  const refuse = (): Problem => refusals.refuse();
  const countOne = (userId: string) => void upperBounds.set(userId, (upperBounds.get(userId) ?? 0) + 1);

  /** Takes a slot for an answer. Synchronous, unless the user may have reached the limit. */
  function admit(userId: string, take: () => void): Promise<void> | undefined {
    if (answersMax > 0 && !isBelowLimit(userId)) return refreshAndTake(userId, take);
    take();
    return undefined;
  }

  return {
    async store(userId, store) {
      const pending = admit(userId, () => countOne(userId));
      if (pending) await pending;
      const stored = store();
      remember(userId, stored);
      return stored;
    },

    check: (userId) => admit(userId, () => {}),
    count: countOne,

    async reserve(userId) {
      let release = () => {};
      const pending = admit(userId, () => {
        release = ephemeral.take(userId);
      });
      if (pending) await pending;
      return () => release();
    },
  };
}
