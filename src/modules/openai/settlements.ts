import { retryTemporary } from "../../db/retry.ts";
import type { Log } from "../../lib/log.ts";
import type { BudgetService, TokensAndCost } from "../budgets/service.ts";

/** Maximum number of completed answers per instance that wait to be stored. Further ones are only charged. */
export const STORING_MAX = 500;
/** Maximum number of completed answers per user and instance that wait to be stored. Further ones are only charged. */
export const STORING_PER_USER_MAX = 50;
/** Timeout for storing and charging an answer, including retries. */
const STORE_TIMEOUT_MS = 60_000;

export type Settlement = {
  /** Resolves when the answer is charged and stored, or abandoned. */
  done: Promise<void>;
  /**
   * Continues in the background, after the client has received the answer. If too many answers are waiting to be stored, this one
   * is not stored.
   */
  detach(): void;
};

/** Charges and stores answers in the background, so that locked rows don't delay responses. */
export function createSettlements({ budgets, log }: { budgets: BudgetService; log: Log }) {
  /** Settlements that store an answer in the background, each with its user's id. */
  const backgroundSettlements = new Map<Settlement, string>();
  const stopController = new AbortController();

  /** Retries `work` while a row is locked or the database is unavailable, so that answers aren't lost. */
  async function retryUntilStored(
    goal: "charged" | "stored",
    work: () => Promise<void>,
    abandonSignal = stopController.signal,
  ): Promise<void> {
    const signal = AbortSignal.any([stopController.signal, abandonSignal, AbortSignal.timeout(STORE_TIMEOUT_MS)]);
    await retryTemporary(work, signal).catch((error) => log.error({ err: error }, `completion could not be ${goal}`));
  }

  function hasCapacity(userId: string): boolean {
    const userCount = [...backgroundSettlements.values()].filter((ownerId) => ownerId === userId).length;
    return backgroundSettlements.size < STORING_MAX && userCount < STORING_PER_USER_MAX;
  }

  return {
    /**
     * Starts charging and storing an answer.
     * @param store stores the answer; undefined if it isn't stored.
     */
    start(
      { userId, reservationId }: { userId: string; reservationId: string },
      usage: TokensAndCost,
      store: (() => Promise<void>) | undefined,
    ): Settlement {
      const abandonController = new AbortController();
      const done = Promise.all([
        retryUntilStored("charged", () => budgets.settle({ id: reservationId }, userId, usage)),
        store && retryUntilStored("stored", store, abandonController.signal),
      ]).then(() => void backgroundSettlements.delete(settlement));
      const settlement: Settlement = {
        done,
        detach() {
          if (store && hasCapacity(userId)) backgroundSettlements.set(settlement, userId);
          else abandonController.abort();
          // The settlement may already be done.
          void done.then(() => backgroundSettlements.delete(settlement));
        },
      };
      return settlement;
    },

    /** Abandons all unfinished settlements. */
    stop: (): void => stopController.abort(),
  };
}
