import { retryTemporary } from "../../db/retry.ts";
import type { Log } from "../../lib/log.ts";
import type { BudgetService, TokensAndCost } from "../budgets/service.ts";

/** Ended answers waiting to be stored, per instance and per user. Further ones are only charged. */
export const STORING_MAX = 500;
export const STORING_PER_USER_MAX = 50;
/** How long to keep trying to store and charge an answer. */
const STORE_MS_MAX = 60_000;

export type Settlement = {
  /** Resolves when the answer is charged and stored, or was abandoned. */
  done: Promise<void>;
  /**
   * The client has its answer and no longer waits. If a conversation stays locked, the number of waiting texts is limited:
   * without room for one more, this one is not stored.
   */
  leave(): void;
};

/** Charges and stores answers in the background, so that a response is never delayed by a locked row. */
export function createSettlements({ budgets, log }: { budgets: BudgetService; log: Log }) {
  /** Users whose answers wait to be stored, one entry per answer. */
  const storing = new Map<Settlement, string>();
  const stopping = new AbortController();

  /** A paid answer isn't lost because a row is locked or the database is temporarily unavailable. */
  async function retryUntilStored(
    what: string,
    work: () => Promise<void>,
    abandoning = stopping.signal,
  ): Promise<void> {
    const signal = AbortSignal.any([stopping.signal, abandoning, AbortSignal.timeout(STORE_MS_MAX)]);
    await retryTemporary(work, signal).catch((error) => log.error({ err: error }, `completion could not be ${what}`));
  }

  function hasRoom(userId: string): boolean {
    const ofUser = [...storing.values()].filter((other) => other === userId);
    return storing.size < STORING_MAX && ofUser.length < STORING_PER_USER_MAX;
  }

  return {
    /**
     * Starts to settle an answer.
     * @param store absent: the answer isn't stored.
     */
    begin(
      { userId, reservationId }: { userId: string; reservationId: string },
      used: TokensAndCost,
      store: (() => Promise<void>) | undefined,
    ): Settlement {
      const abandon = new AbortController();
      const done = Promise.all([
        retryUntilStored("charged", () => budgets.settle({ id: reservationId }, userId, used)),
        store && retryUntilStored("stored", store, abandon.signal),
      ]).then(() => void storing.delete(settlement));
      const settlement: Settlement = {
        done,
        leave() {
          if (store && hasRoom(userId)) storing.set(settlement, userId);
          else abandon.abort();
          // It may have finished before.
          void done.then(() => storing.delete(settlement));
        },
      };
      return settlement;
    },

    /** Abandons what is left. */
    stop: (): void => stopping.abort(),
  };
}
