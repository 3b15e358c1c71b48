import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { isTemporary, retryTemporary } from "../../db/retry.ts";
import type { EventLog } from "../../events/log.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import type { BudgetService } from "../budgets/service.ts";
import { createFinisher } from "./finisher.ts";
import type { FollowUps } from "./follow-ups.ts";
import type { LiveAnswers } from "./live-answers.ts";
import { keyOf, type Pieces } from "./pieces.ts";
import type { FinalState } from "./queries.ts";
import * as queries from "./queries.ts";
import { fitFinal, INTERRUPTIONS_MAX, listSubstitutes } from "./refused-ends.ts";
import { answerLogFields, type RunningAnswer } from "./running-answer.ts";

/** How long to keep trying to store a final state; then the lease expires and another instance ends the answer. */
const FINISH_MS_MAX = 10 * 60_000;
/** How long a released answer waits for its end, if that is being stored. */
const LAST_FINISH_MS = 300;

export type AnswerEndDependencies = {
  database: Database;
  events: EventLog;
  budgets: BudgetService;
  followUps: FollowUps;
  liveAnswers: LiveAnswers;
  pieces: Pieces;
  metrics: Metrics;
  log: Log;
  instanceId: string;
  /** Whether a shutdown hands unfinished answers to other instances. That isn't counted as an interruption. */
  isDrained(): boolean;
};

/** Stores the ends of answers with their cost, or leaves them to a successor. */
export function createAnswerEnds(deps: AnswerEndDependencies) {
  const { database, events, budgets, followUps, liveAnswers, pieces, metrics, log, instanceId, isDrained } = deps;
  const finisher = createFinisher({ database });

  /**
   * Stores the final state, its event and its cost in one transaction, pushes the event, and releases the lease. Temporary
   * errors, such as a locked conversation, are retried while the lease is renewed.
   * @returns false if the answer was released before that.
   * @throws permanent errors, and the last temporary error after FINISH_MS_MAX.
   */
  async function finish(answer: RunningAnswer, final: FinalState): Promise<boolean> {
    let ending = Promise.resolve();
    const end = () => {
      ending = storeEnd(answer, final);
      return ending;
    };
    try {
      await retryTemporary(end, AbortSignal.any([answer.released.signal, AbortSignal.timeout(FINISH_MS_MAX)]));
      return true;
    } catch (error) {
      if (answer.stop !== "release") throw error;
      // Retries once if the last attempt failed: if only the commit's response was lost, the lease is gone because the end
      // is stored.
      const isStored = ending.catch(end).then(
        () => true,
        () => false,
      );
      return Promise.race([isStored, Bun.sleep(LAST_FINISH_MS).then(() => false)]);
    }
  }

  async function storeEnd(answer: RunningAnswer, final: FinalState): Promise<void> {
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
    // Removed first, so that new readers don't see an answer in progress after its end.
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
   * Stores the first of these ends that the database accepts. An end without usage is stored after the usage was charged.
   * @returns what was stored; null if the answer was released before. @throws the error of the last one.
   */
  async function finishWithFallback(answer: RunningAnswer, final: FinalState): Promise<FinalState | null> {
    let refusal: unknown;
    for (const end of [final, ...listSubstitutes(final)]) {
      try {
        if (final.usage && !end.usage) await chargeSeparately(answer, final);
        return (await finish(answer, end)) ? end : null;
      } catch (error) {
        if (isTemporary(error)) throw error;
        refusal = error;
        const { conversation_id } = answer.generation;
        log.error(
          { err: error, ...answerLogFields(answer), conversation_id, status: end.status },
          "the database rejected the end of an answer",
        );
      }
    }
    throw refusal;
  }

  /** Charges the usage once and ends the reservation, for answers that no other instance settles. */
  const settle = ({ generation, chargeId }: RunningAnswer, used: FinalState): Promise<void> =>
    budgets.settle({ id: chargeId, reservationId: generation.id }, generation.requested_by, used);

  /** The same for an end that is stored without its usage: storing it matters more than the charge. */
  async function chargeSeparately(answer: RunningAnswer, used: FinalState): Promise<void> {
    const { generation, chargeId } = answer;
    const options = { id: chargeId, reservationId: generation.id };
    const charged = budgets.charge(generation.requested_by, used, options);
    await charged.catch((err) => log.error({ err, ...answerLogFields(answer) }, "an answer could not be charged"));
  }

  /**
   * The successor settles; the usage here is charged in addition. The end may still be waiting for its commit, or be
   * committed without a response: releasing again here rejects it, or finds it stored and charged.
   */
  async function charge(answer: RunningAnswer, final: FinalState): Promise<void> {
    const { generation, chargeId } = answer;
    const isDue = (sql: Sql) => releaseLease(sql, answer, final);
    const { usage, costUsd } = final;
    const isGone = usage !== null && (await queries.isDeleted(database, keyOf(generation)));
    // Without a successor, the reservation is settled too, including the API key's.
    const rest = isGone ? { reservationId: generation.id } : { isDue };
    await budgets.charge(generation.requested_by, { usage, costUsd }, { id: chargeId, ...rest });
  }

  /** A paid attempt that has to be repeated counts as an interruption, so that repetitions are limited. */
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

  /** The database rejects every end, so no model is called again: the next owner only tries to end the answer. */
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
    /** Stores the end, or releases the answer. @returns the stored end; null: none. */
    async end(answer: RunningAnswer, ended: FinalState): Promise<FinalState | null> {
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

    /** Closes the connections that waited for locks. */
    close: finisher.close,
  };
}
