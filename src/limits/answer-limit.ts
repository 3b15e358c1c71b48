import { BoundedCache } from "../cache/bounded-cache.ts";
import type { Problem } from "../lib/problem.ts";
import { Slots } from "./slots.ts";

/** Users whose answers are remembered; whoever is forgotten begins at none again. */
const USERS_MAX = 20_000;

type Options = {
  /** Answers that a user may have in progress; 0: no limit. */
  answersMax: number;
  /** Answers of a user that are stored and have not ended, on all instances. */
  countStored(userId: string): Promise<number>;
  onRefused(): void;
};

/** How many answers of models a user may have in progress. */
export interface AnswerLimit {
  /** Stores an answer, if the user may have one more. @throws Problem `rate_limited`, and what `store` throws. */
  store<T>(userId: string, store: () => Promise<T>): Promise<T>;

  /**
   * For a message that might be answered: refused while there is no room; call `count` once it is answered. As a rule there
   * is nothing to wait for. @throws Problem `rate_limited`.
   */
  check(userId: string): Promise<void> | undefined;
  count(userId: string): void;

  /** Before an answer that is not stored. @returns to be called at its end. @throws Problem `rate_limited`. */
  hold(userId: string): Promise<() => void>;
}

/**
 * What is kept for each user is not how many answers there are but how many there could be at most: the count of the last
 * look into the database and all that began since. Only who reaches the limit by that is looked up again, so that most
 * answers begin without a question. Answers that other instances begin meanwhile are seen at the next look.
 */
export function createAnswerLimit({ answersMax, countStored, onRefused }: Options): AnswerLimit {
  /** Answers that are not stored: those of OpenAI's clients. */
  const unstored = new Slots({ placesMax: 0, what: "answers", onRefused });
  const refusals = new Slots({ placesMax: answersMax, what: "answers of models in progress", onRefused });
  const atMost = new BoundedCache<number>({ max: USERS_MAX });
  const looks = new Map<string, Promise<void>>();
  /** Answers that are being stored: a look would not see them. */
  const storing = new Map<string, Set<Promise<unknown>>>();

  const hasRoom = (userId: string) => (atMost.get(userId) ?? 0) + unstored.count(userId) < answersMax;

  /** One look at a time: those who come meanwhile wait for it. */
  function look(userId: string): Promise<void> {
    const running = looks.get(userId);
    if (running) return running;
    const started = countAll(userId).finally(() => looks.delete(userId));
    looks.set(userId, started);
    return started;
  }

  async function countAll(userId: string): Promise<void> {
    // Nobody begins meanwhile: whoever comes finds no room, and waits for this look.
    await Promise.allSettled(storing.get(userId) ?? []);
    atMost.set(userId, await countStored(userId));
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

  async function lookAndTake(userId: string, take: () => void): Promise<void> {
    await look(userId);
    if (!hasRoom(userId)) throw refuse();
    take();
  }

  const refuse = (): Problem => refusals.refuse();
  const takeStored = (userId: string) => void atMost.set(userId, (atMost.get(userId) ?? 0) + 1);

  /** Nothing to wait for, unless the user may have reached the limit. */
  function admit(userId: string, take: () => void): Promise<void> | undefined {
    if (answersMax > 0 && !hasRoom(userId)) return lookAndTake(userId, take);
    take();
    return undefined;
  }

  return {
    async store(userId, store) {
      const pending = admit(userId, () => takeStored(userId));
      if (pending) await pending;
      const stored = store();
      remember(userId, stored);
      return stored;
    },

    check: (userId) => admit(userId, () => {}),
    count: takeStored,

    async hold(userId) {
      let release = () => {};
      const pending = admit(userId, () => {
        release = unstored.take(userId);
      });
      if (pending) await pending;
      return () => release();
    },
  };
}
