import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { isTemporary, retryTemporary } from "../../db/retry.ts";
import type { EventLog } from "../../events/log.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import type { BudgetService } from "../budgets/service.ts";
import { fitFinal, INTERRUPTIONS_MAX, listSubstitutes } from "./final-states.ts";
import { createFinisher } from "./finisher.ts";
import type { FollowUps } from "./follow-ups.ts";
import type { LiveAnswers } from "./live-answers.ts";
import { keyOf, type Pieces } from "./pieces.ts";
import type { FinalState } from "./queries.ts";
import * as queries from "./queries.ts";
import { answerLogFields, type RunningAnswer } from "./running-answer.ts";

/** How long to keep trying to store a final state; then the lease expires and another instance finishes the answer. */
const FINISH_MS_MAX = 10 * 60_000;
/** How long a released answer waits for its final state to be stored, if that has already begun. */
const LAST_FINISH_MS = 300;

export type AnswerFinalizerDependencies = {
  database: Database;
  events: EventLog;
  budgets: BudgetService;
  followUps: FollowUps;
  liveAnswers: LiveAnswers;
  pieces: Pieces;
  metrics: Metrics;
  log: Log;
  instanceId: string;
  /** Whether a shutdown is handing unfinished answers to other instances. That isn't counted as an interruption. */
  isDrained(): boolean;
};

/** Stores finished answers with their cost, or releases them to a successor. */
export function createAnswerFinalizer(deps: AnswerFinalizerDependencies) {
  const { database, events, budgets, followUps, liveAnswers, pieces, metrics, log, instanceId, isDrained } = deps;
  const finisher = createFinisher({ database });

  /**
   * Stores the final state, its event and its cost in one transaction, pushes the event, and releases the lease.
   * Temporary errors, such as a locked conversation, are retried while the lease is renewed.
   * @returns false if the answer was released first.
   * @throws permanent errors, and the last temporary error after FINISH_MS_MAX.
   */
  async function finish(answer: RunningAnswer, final: FinalState): Promise<boolean> {
    let lastAttempt = Promise.resolve();
    const store = () => {
      lastAttempt = storeFinalState(answer, final);
      return lastAttempt;
    };
    try {
      await retryTemporary(store, AbortSignal.any([answer.released.signal, AbortSignal.timeout(FINISH_MS_MAX)]));
      return true;
    } catch (error) {
      if (answer.stop !== "release") throw error;
      // If the last attempt failed, try once more: perhaps only the response to the commit was lost. Then the lease is gone
      // because the final state is stored.
      const isStored = lastAttempt.catch(store).then(
        () => true,
        () => false,
      );
      return Promise.race([isStored, Bun.sleep(LAST_FINISH_MS).then(() => false)]);
    }
  }

  async function storeFinalState(answer: RunningAnswer, final: FinalState): Promise<void> {
    const { generation, live, context } = answer;
    const { conversation_id: conversationId, requested_by: userId } = generation;
    const stored = await finisher.finish({ generation, attempt: live.attempt, final });
    if (stored.outcome !== "finished") {
      // The generation was deleted with its conversation, so nobody else settles its reservation.
      if (stored.outcome === "gone") return settle(answer, final);
      log.warn(answerLogFields(answer), "generation was taken over by another instance; its end is not stored here");
      return charge(answer, final);
    }
    metrics.messages.inc({ role: "assistant" });
    // Remove it before the event is published, so that new readers don't see an answer in progress after its end.
    liveAnswers.remove(answer);
    events.publish([stored.event]);
    if (context && final.status === "complete")
      followUps.begin({
        conversationId,
        seq: generation.seq,
        text: final.content,
        context,
        askerId: userId,
        about: answerLogFields(answer),
      });
  }

  /**
   * Stores the final state, or the first substitute that the database accepts. Before a substitute without usage is
   * stored, the usage is charged separately.
   * @returns what was stored; null if the answer was released first. @throws the error of the last attempt.
   */
  async function finishWithFallback(answer: RunningAnswer, final: FinalState): Promise<FinalState | null> {
    let refusal: unknown;
    for (const state of [final, ...listSubstitutes(final)]) {
      try {
        if (final.usage && !state.usage) await chargeSeparately(answer, final);
        return (await finish(answer, state)) ? state : null;
      } catch (error) {
        if (isTemporary(error)) throw error;
        refusal = error;
        const { conversation_id } = answer.generation;
        log.error(
          { err: error, ...answerLogFields(answer), conversation_id, status: state.status },
          "the database rejected the end of an answer",
        );
      }
    }
    throw refusal;
  }

  /** Charges the usage once and ends the reservation, for answers that no other instance settles. */
  const settle = ({ generation, chargeId }: RunningAnswer, used: FinalState): Promise<void> =>
    budgets.settle({ id: chargeId, reservationId: generation.id }, generation.requested_by, used);

  /** Like `settle`, before a state without usage is stored. Errors are only logged, because storing matters more. */
  async function chargeSeparately(answer: RunningAnswer, used: FinalState): Promise<void> {
    const { generation, chargeId } = answer;
    const options = { id: chargeId, reservationId: generation.id };
    const charged = budgets.charge(generation.requested_by, used, options);
    await charged.catch((err) => log.error({ err, ...answerLogFields(answer) }, "an answer could not be charged"));
  }

  /**
   * Charges the usage of this instance, in addition to what the successor settles. A final state may still be waiting
   * for its commit, or be committed although the response was lost. Releasing the lease again either rejects that
   * state, or finds it stored and charged.
   */
  async function charge(answer: RunningAnswer, final: FinalState): Promise<void> {
    const { generation, chargeId } = answer;
    const isDue = (sql: Sql) => releaseLease(sql, answer, final);
    const { usage, costUsd } = final;
    const isGone = usage !== null && (await queries.isDeleted(database, keyOf(generation)));
    // Without a successor, the reservation is settled too, including the API key's.
    const options = isGone ? { reservationId: generation.id } : { isDue };
    await budgets.charge(generation.requested_by, { usage, costUsd }, { id: chargeId, ...options });
  }

  /** Counts a paid attempt that has to be repeated as an interruption, so that repetitions are limited. */
  const releaseLease = (sql: Sql, { generation }: RunningAnswer, { usage }: FinalState): Promise<boolean> =>
    queries.releaseGeneration(sql, instanceId, keyOf(generation), usage !== null && !isDrained() ? 1 : 0);

  async function release(answer: RunningAnswer, final: FinalState): Promise<void> {
    await pieces.store(answer, (write) =>
      withTransaction(database, async (sql) => {
        await write(sql);
        await releaseLease(sql, answer, final);
      }),
    );
  }

  /** Releases an answer whose final states the database rejects. The next owner calls no model and only tries to store it. */
  async function releaseRejected(answer: RunningAnswer, final: FinalState): Promise<void> {
    const key = keyOf(answer.generation);
    await pieces
      .append([answer])
      .catch((error) =>
        log.warn({ err: error, ...answerLogFields(answer) }, "the text of an answer could not be stored"),
      );
    await withTransaction(database, (sql) => queries.releaseRejected(sql, instanceId, key, INTERRUPTIONS_MAX)).catch(
      (error) =>
        log.warn({ err: error, ...answerLogFields(answer) }, "an answer whose end was rejected could not be released"),
    );
    await charge(answer, final);
  }

  return {
    /** Stores the final state, or releases the answer. @returns the stored state; null if it was released. */
    async finalize(answer: RunningAnswer, ended: FinalState): Promise<FinalState | null> {
      const final = fitFinal(ended);
      try {
        const stored = answer.stop === "release" ? null : await finishWithFallback(answer, final);
        if (stored) return stored;
      } catch (error) {
        log.warn(
          { err: error, ...answerLogFields(answer) },
          "the end of an answer could not be stored; another instance takes over",
        );
        if (!isTemporary(error)) {
          await releaseRejected(answer, final);
          return null;
        }
      }
      await release(answer, final).catch((error) =>
        log.warn({ err: error, ...answerLogFields(answer) }, "an answer could not be released"),
      );
      await charge(answer, final);
      return null;
    },

    /** Closes the connections for commits. */
    close: finisher.close,
  };
}
