import { retryTemporary } from "../../db/retry.ts";
import type { Log } from "../../lib/log.ts";
import type { BudgetService, TokensAndCost } from "../budgets/service.ts";

/** Answers that were given and wait to be stored: on one instance, and of one user. More are only charged. */
export const STORING_MAX = 500;
export const STORING_PER_USER_MAX = 50;
/** How long it is tried to store and to charge an answer. */
const STORE_MS_MAX = 60_000;

export type Settlement = {
  /** Fulfils when the answer is charged and stored, or that was given up. */
  done: Promise<void>;
  /**
   * The client has its answer and waits no longer. If a conversation is locked for long, the texts that wait for it are
   * bounded: without room for one more, this one is not stored.
   */
  leave(): void;
};

/** Charges and stores answers in the background: that this cannot be done yet is no reason to keep an answer back. */
export function createSettlements({ budgets, log }: { budgets: BudgetService; log: Log }) {
  /** Users whose answers wait to be stored; one entry each. */
  const storing = new Map<Settlement, string>();
  const stopping = new AbortController();

  /** What was paid for is not lost because a row is locked or the database is away for a while. */
  async function keepTrying(what: string, work: () => Promise<void>, given = stopping.signal): Promise<void> {
    const signal = AbortSignal.any([stopping.signal, given, AbortSignal.timeout(STORE_MS_MAX)]);
    await retryTemporary(work, signal).catch((error) => log.error({ err: error }, `completion could not be ${what}`));
  }

  function hasRoom(userId: string): boolean {
    const own = [...storing.values()].filter((other) => other === userId);
    return storing.size < STORING_MAX && own.length < STORING_PER_USER_MAX;
  }

  return {
    /**
     * Begins to settle an answer.
     * @param store absent: nothing is stored of it.
     */
    begin(
      { userId, reservationId }: { userId: string; reservationId: string },
      used: TokensAndCost,
      store: (() => Promise<void>) | undefined,
    ): Settlement {
      const giveUp = new AbortController();
      const done = Promise.all([
        keepTrying("charged", () => budgets.settle({ id: reservationId }, userId, used)),
        store && keepTrying("stored", store, giveUp.signal),
      ]).then(() => void storing.delete(settlement));
      const settlement: Settlement = {
        done,
        leave() {
          if (store && hasRoom(userId)) storing.set(settlement, userId);
          else giveUp.abort();
          // It may have been done before.
          void done.then(() => storing.delete(settlement));
        },
      };
      return settlement;
    },

    /** Gives up what is left. */
    stop: (): void => stopping.abort(),
  };
}
