import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { isTemporary, retryTemporary } from "../../db/retry.ts";
import type { EventLog } from "../../events/log.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import type { BudgetService } from "../budgets/service.ts";
import { fitFinalState, INTERRUPTIONS_MAX, listSubstitutes } from "./final-states.ts";
import { createFinisher } from "./finisher.ts";
import type { FollowUpRunner } from "./follow-ups.ts";
import type { LiveAnswerRegistry } from "./live-answers.ts";
import { getLeaseKey, type PieceStore } from "./pieces.ts";
import type { FinalState } from "./queries.ts";
import * as queries from "./queries.ts";
import { getAnswerLogFields, type RunningAnswer } from "./running-answer.ts";

/** The maximum time for storing a final state. After that, the lease expires and another instance finishes the answer. */
const FINISH_TIMEOUT_MS = 10 * 60_000;
/** The maximum time that a released answer waits for a final state that is already being stored. */
const LAST_FINISH_TIMEOUT_MS = 300;

export type AnswerFinalizerDependencies = {
  database: Database;
  events: EventLog;
  budgets: BudgetService;
  followUps: FollowUpRunner;
  liveAnswers: LiveAnswerRegistry;
  pieceStore: PieceStore;
  metrics: Metrics;
  log: Log;
  instanceId: string;
  /** Returns whether a shutdown is releasing unfinished answers to other instances, which doesn't count as an interruption. */
  isHandingOver(): boolean;
};

/** Creates the finalizer, which stores finished answers with their cost, or releases them to another instance. */
export function createAnswerFinalizer(deps: AnswerFinalizerDependencies) {
  const { database, events, budgets, followUps, liveAnswers, pieceStore, metrics, log, instanceId, isHandingOver } =
    deps;
  const finisher = createFinisher({ database });

  /**
   * Stores the final state, its event and its cost in one transaction, pushes the event, and releases the lease. Retries after temporary
   * errors, such as a locked conversation. The lease is still renewed during the retries.
   * @returns false if the answer was released first.
   * @throws permanent errors, and the last temporary error after FINISH_TIMEOUT_MS.
   */
  async function finish(answer: RunningAnswer, final: FinalState): Promise<boolean> {
    let lastWrite = Promise.resolve();
    const store = () => {
      lastWrite = storeFinalState(answer, final);
      return lastWrite;
    };
    try {
      await retryTemporary(
        store,
        AbortSignal.any([answer.releaseController.signal, AbortSignal.timeout(FINISH_TIMEOUT_MS)]),
      );
      return true;
    } catch (error) {
      if (answer.stopReason !== "release") throw error;
      // The last write may have been committed although its response was lost. Writing the same state again shows whether it was.
      const isStored = lastWrite.catch(store).then(
        () => true,
        () => false,
      );
      return Promise.race([isStored, Bun.sleep(LAST_FINISH_TIMEOUT_MS).then(() => false)]);
    }
  }

  async function storeFinalState(answer: RunningAnswer, final: FinalState): Promise<void> {
    const { generation, live, context } = answer;
    const { conversation_id: conversationId, requested_by: userId } = generation;
    const stored = await finisher.finish({ generation, attempt: live.attempt, final });
    if (stored.outcome !== "finished") {
      // The generation was deleted with its conversation, so no other instance settles its reservation.
      if (stored.outcome === "gone") return settle(answer, final);
      log.warn(getAnswerLogFields(answer), "generation was taken over by another instance; its end is not stored here");
      return charge(answer, final);
    }
    metrics.messages.inc({ role: "assistant" });
    // Removed before the event is published. Otherwise, new readers could receive a snapshot of the unfinished answer after its final
    // event.
    liveAnswers.remove(answer);
    events.publish([stored.event]);
    if (context && final.status === "complete")
      followUps.begin({
        conversationId,
        seq: generation.seq,
        text: final.content,
        context,
        requesterId: userId,
        logContext: getAnswerLogFields(answer),
      });
  }

  /**
   * Stores the final state, or the first substitute that the database accepts. Before a substitute without usage is stored, the usage
   * is charged separately.
   * @returns the stored state, or null if the answer was released first. @throws the error of the last attempt.
   */
  async function finishWithFallback(answer: RunningAnswer, final: FinalState): Promise<FinalState | null> {
    let lastError: unknown;
    for (const state of [final, ...listSubstitutes(final)]) {
      try {
        if (final.usage && !state.usage) await chargeSeparately(answer, final);
        return (await finish(answer, state)) ? state : null;
      } catch (error) {
        if (isTemporary(error)) throw error;
        lastError = error;
        const { conversation_id } = answer.generation;
        log.error(
          { err: error, ...getAnswerLogFields(answer), conversation_id, status: state.status },
          "the database rejected the end of an answer",
        );
      }
    }
    throw lastError;
  }

  /** Charges the usage once and ends the reservation. Used for answers that no other instance will settle. */
  const settle = ({ generation, chargeId }: RunningAnswer, final: FinalState): Promise<void> =>
    budgets.settle({ id: chargeId, reservationId: generation.id }, generation.requested_by, final);

  /** Charges the usage before a state without usage is stored. Errors are only logged, because storing the answer matters more. */
  async function chargeSeparately(answer: RunningAnswer, final: FinalState): Promise<void> {
    const { generation, chargeId } = answer;
    const options = { id: chargeId, reservationId: generation.id };
    await budgets
      .charge(generation.requested_by, final, options)
      .catch((err) => log.error({ err, ...getAnswerLogFields(answer) }, "an answer could not be charged"));
  }

  /**
   * Charges this instance's usage, in addition to the next owner's. A final state from this instance may still be waiting for its commit,
   * or it may have been committed although the response was lost. Therefore, the lease is released again first. If the state isn't
   * committed yet, the release makes the database reject it. If it is already stored, its usage was charged with it, and nothing
   * more is charged.
   */
  async function charge(answer: RunningAnswer, final: FinalState): Promise<void> {
    const { generation, chargeId } = answer;
    const shouldCharge = (sql: Sql) => releaseLease(sql, answer, final);
    const { usage, costUsd } = final;
    const isDeleted = usage !== null && (await queries.isDeleted(database, getLeaseKey(generation)));
    // A deleted generation has no next owner, so this charge also settles the reservation, including the API key's.
    const options = isDeleted ? { reservationId: generation.id } : { shouldCharge };
    await budgets.charge(generation.requested_by, { usage, costUsd }, { id: chargeId, ...options });
  }

  /** Releases the lease. If tokens were used, this counts as an interruption, which limits how often a paid attempt is repeated. */
  const releaseLease = (sql: Sql, { generation }: RunningAnswer, { usage }: FinalState): Promise<boolean> =>
    queries.releaseGeneration(sql, instanceId, getLeaseKey(generation), usage !== null && !isHandingOver() ? 1 : 0);

  async function release(answer: RunningAnswer, final: FinalState): Promise<void> {
    await pieceStore.store(answer, (write) =>
      withTransaction(database, async (sql) => {
        await write(sql);
        await releaseLease(sql, answer, final);
      }),
    );
  }

  /**
   * Releases an answer whose final state and substitutes the database has rejected. The next owner only tries to store the answer again,
   * without calling a model.
   */
  async function releaseRejected(answer: RunningAnswer, final: FinalState): Promise<void> {
    const key = getLeaseKey(answer.generation);
    await pieceStore
      .append([answer])
      .catch((error) =>
        log.warn({ err: error, ...getAnswerLogFields(answer) }, "the text of an answer could not be stored"),
      );
    await withTransaction(database, (sql) => queries.releaseRejected(sql, instanceId, key, INTERRUPTIONS_MAX)).catch(
      (error) =>
        log.warn(
          { err: error, ...getAnswerLogFields(answer) },
          "an answer whose end was rejected could not be released",
        ),
    );
    await charge(answer, final);
  }

  return {
    /** Stores the final state, or releases the answer. @returns the stored state, or null if the answer was released. */
    async finalize(answer: RunningAnswer, finalState: FinalState): Promise<FinalState | null> {
      const final = fitFinalState(finalState);
      try {
        const stored = answer.stopReason === "release" ? null : await finishWithFallback(answer, final);
        if (stored) return stored;
      } catch (error) {
        log.warn(
          { err: error, ...getAnswerLogFields(answer) },
          "the end of an answer could not be stored; another instance takes over",
        );
        if (!isTemporary(error)) {
          await releaseRejected(answer, final);
          return null;
        }
      }
      await release(answer, final).catch((error) =>
        log.warn({ err: error, ...getAnswerLogFields(answer) }, "an answer could not be released"),
      );
      await charge(answer, final);
      return null;
    },

    /** Closes the connections for commits. */
    close: finisher.close,
  };
}
