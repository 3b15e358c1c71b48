import { retryTemporary } from "../../db/retry.ts";
import type { Log } from "../../lib/log.ts";
import type { BudgetService, TokensAndCost } from "../budgets/service.ts";

/** Maximum completed answers waiting to be stored, per instance and per user. Further ones are only charged. */
export const STORING_MAX = 500;
export const STORING_PER_USER_MAX = 50;
/** How long to keep trying to store and charge an answer. */
const STORE_MS_MAX = 60_000;

export type Settlement = {
  /** Resolves when the answer is charged and stored, or abandoned. */
  done: Promise<void>;
  /**
   * Continues in the background, after the client has received its answer. The number of answers waiting to be stored
   * is limited; above that, this one isn't stored.
   */
  detach(): void;
};

/** Charges and stores answers in the background, so that a response is never delayed by a locked row. */
export function createSettlements({ budgets, log }: { budgets: BudgetService; log: Log }) {
  /** Answers that wait to be stored in the background, with their users. */
  const storing = new Map<Settlement, string>();
  const stopping = new AbortController();

  /** Retries, so that a paid answer isn't lost because a row is locked or the database is temporarily unavailable. */
  async function retryUntilStored(
    verb: string,
    work: () => Promise<void>,
    abandonSignal = stopping.signal,
  ): Promise<void> {
    const signal = AbortSignal.any([stopping.signal, abandonSignal, AbortSignal.timeout(STORE_MS_MAX)]);
    await retryTemporary(work, signal).catch((error) => log.error({ err: error }, `completion could not be ${verb}`));
  }

  function hasRoom(userId: string): boolean {
    const userSettlements = [...storing.values()].filter((other) => other === userId);
    return storing.size < STORING_MAX && userSettlements.length < STORING_PER_USER_MAX;
  }

  return {
    /**
     * Starts to settle an answer.
     * @param store stores the answer; undefined if it isn't stored.
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
        detach() {
          if (store && hasRoom(userId)) storing.set(settlement, userId);
          else abandon.abort();
          // The settlement may already be done.
          void done.then(() => storing.delete(settlement));
        },
      };
      return settlement;
    },

    /** Abandons all unfinished settlements. */
    stop: (): void => stopping.abort(),
  };
}
