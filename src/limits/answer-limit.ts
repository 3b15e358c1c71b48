import { BoundedCache } from "../cache/bounded-cache.ts";
import type { Problem } from "../lib/problem.ts";
import { Slots } from "./slots.ts";

/** Users whose answers are remembered; after eviction a count starts at zero. */
const USERS_MAX = 20_000;

type Options = {
  /** Answers in progress that a user may have; 0: no limit. */
  answersMax: number;
  /** Stored answers of a user that have not ended, on all instances. */
  countStored(userId: string): Promise<number>;
  onRefused(): void;
};

/** Limits the model answers in progress of each user. */
export interface AnswerLimit {
  /** Stores an answer if the limit allows it. @throws Problem `rate_limited`, and what `store` throws. */
  store<T>(userId: string, store: () => Promise<T>): Promise<T>;

  /**
   * Checks the limit for a message that might be answered; call `count` once it is. Usually synchronous.
   * @throws Problem `rate_limited`.
   */
  check(userId: string): Promise<void> | undefined;
  count(userId: string): void;

  /** Counts an answer that is not stored. @returns a function to call at its end. @throws Problem `rate_limited`. */
  reserve(userId: string): Promise<() => void>;
}

/**
 * Keeps an upper bound for each user instead of an exact count: the last count from the database plus all answers begun
 * since. Only when the bound reaches the limit is the count read again, so most answers begin without a query. Answers begun
 * by other instances are seen at the next read.
 */
export function createAnswerLimit({ answersMax, countStored, onRefused }: Options): AnswerLimit {
  /** Answers that are not stored: those of OpenAI's clients. */
  const ephemeral = new Slots({ slotsMax: 0, what: "answers", onRefused });
  const refusals = new Slots({ slotsMax: answersMax, what: "model answers in progress", onRefused });
  const upperBounds = new BoundedCache<number>({ max: USERS_MAX });
  const pendingCounts = new Map<string, Promise<void>>();
  /** Answers being stored: the database doesn't count them yet. */
  const storing = new Map<string, Set<Promise<unknown>>>();

  const hasRoom = (userId: string) => (upperBounds.get(userId) ?? 0) + ephemeral.count(userId) < answersMax;

  /** One read at a time; concurrent callers wait for it. */
  function refreshCount(userId: string): Promise<void> {
    const running = pendingCounts.get(userId);
    if (running) return running;
    const started = countAll(userId).finally(() => pendingCounts.delete(userId));
    pendingCounts.set(userId, started);
    return started;
  }

  async function countAll(userId: string): Promise<void> {
    // No answer begins during the read: callers find no room, and wait for it.
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
    if (!hasRoom(userId)) throw refuse();
    take();
  }

  const refuse = (): Problem => refusals.refuse();
  const countOne = (userId: string) => void upperBounds.set(userId, (upperBounds.get(userId) ?? 0) + 1);

  /** Synchronous, unless the user may have reached the limit. */
  function admit(userId: string, take: () => void): Promise<void> | undefined {
    if (answersMax > 0 && !hasRoom(userId)) return refreshAndTake(userId, take);
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
