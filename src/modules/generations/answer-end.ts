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
import { nameAnswer, type RunningAnswer } from "./running-answer.ts";

/** A final state is tried to be stored for so long; after that the lease runs out and another instance ends it. */
const FINISH_MS_MAX = 10 * 60_000;
/** How long a released answer waits for its end, if that is just being stored. */
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
  /** Whether a shutdown leaves what is unfinished to others: no fault of an answer, so it doesn't count as an interruption. */
  isDrained(): boolean;
};

/** Stores the ends of answers, with what they cost, or leaves them to a successor. */
export function createAnswerEnds(deps: AnswerEndDependencies) {
  const { database, events, budgets, followUps, liveAnswers, pieces, metrics, log, instanceId, isDrained } = deps;
  const finisher = createFinisher({ database });

  /**
   * Stores the final state with its event and its cost in one transaction, pushes it, and lets go of the lease. While that
   * fails with what is temporary, such as a locked conversation, it is tried again, and the lease is renewed.
   * @returns false when the answer was released before that.
   * @throws what is not temporary, and the last temporary error after FINISH_MS_MAX.
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
      // Once more if the last try has failed: if its commit got no response, the lease is gone because the end is stored.
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
      // Nobody else will: with the conversation, the generation is gone, and only its reservation is left.
      if (stored.outcome === "gone") return settle(answer, final);
      log.warn(nameAnswer(answer), "generation was taken over; its end is not stored here");
      return charge(answer, final);
    }
    metrics.messages.inc({ role: "assistant" });
    // First, so that nobody who joins now is told of an answer in progress after its end.
    liveAnswers.remove(answer);
    events.publish([stored.event]);
    if (context && final.status === "complete")
      followUps.begin({
        conversationId,
        seq: generation.seq,
        text: final.content,
        context,
        askerId: userId,
        about: nameAnswer(answer),
      });
  }

  /**
   * Stores the first of these ends that the database takes. An end without usage is stored after what was used is charged.
   * @returns what was stored; null when the answer was released before that. @throws what refused the last of them.
   */
  async function finishAsFarAsPossible(answer: RunningAnswer, final: FinalState): Promise<FinalState | null> {
    let refusal: unknown;
    for (const end of [final, ...listSubstitutes(final)]) {
      try {
        if (final.usage && !end.usage) await chargeApart(answer, final);
        return (await finish(answer, end)) ? end : null;
      } catch (error) {
        if (isTemporary(error)) throw error;
        refusal = error;
        const { conversation_id } = answer.generation;
        log.error(
          { err: error, ...nameAnswer(answer), conversation_id, status: end.status },
          "the end of an answer was refused",
        );
      }
    }
    throw refusal;
  }

  /** Charges what was used, once, and ends the reservation. For answers that nobody else settles. */
  const settle = ({ generation, chargeId }: RunningAnswer, used: FinalState): Promise<void> =>
    budgets.settle({ id: chargeId, reservationId: generation.id }, generation.requested_by, used);

  /** The same for an end that is stored without its usage: it is worth more than the charge. */
  async function chargeApart(answer: RunningAnswer, used: FinalState): Promise<void> {
    const { generation, chargeId } = answer;
    const options = { id: chargeId, reservationId: generation.id };
    const charged = budgets.charge(generation.requested_by, used, options);
    await charged.catch((err) => log.error({ err, ...nameAnswer(answer) }, "an answer is not charged"));
  }

  /**
   * The successor settles; what was used here comes on top. The end may still wait for its commit, or be committed
   * without a response: so it is released here again, which refuses the end or finds it stored, and charged.
   */
  async function charge(answer: RunningAnswer, final: FinalState): Promise<void> {
    const { generation, chargeId } = answer;
    const isDue = (sql: Sql) => releaseHeld(sql, answer, final);
    const { usage, costUsd } = final;
    const isGone = usage !== null && (await queries.isGone(database, keyOf(generation)));
    // Without a successor, the reservation is settled as well: for the key that was used, too.
    const rest = isGone ? { reservationId: generation.id } : { isDue };
    await budgets.charge(generation.requested_by, { usage, costUsd }, { id: chargeId, ...rest });
  }

  /** What was paid for and is asked for again counts: it may not come again for ever. */
  const releaseHeld = (sql: Sql, { generation }: RunningAnswer, { usage }: FinalState): Promise<boolean> =>
    queries.releaseGeneration(sql, instanceId, keyOf(generation), usage !== null && !isDrained() ? 1 : 0);

  async function release(answer: RunningAnswer, final: FinalState): Promise<void> {
    await pieces.store(answer, (write) =>
      withTransaction(database, async (sql) => {
        await write(sql);
        await releaseHeld(sql, answer, final);
      }),
    );
  }

  /** No end is taken, so no model is asked again: whoever takes the answer over only tries to end it. */
  async function leaveRefused(answer: RunningAnswer, final: FinalState): Promise<void> {
    const key = keyOf(answer.generation);
    await pieces
      .append([answer])
      .catch((error) => log.warn({ err: error, ...nameAnswer(answer) }, "the text of an answer is not stored"));
    await withTransaction(database, (sql) => queries.leaveRefused(sql, instanceId, key, INTERRUPTIONS_MAX)).catch(
      (error) => log.warn({ err: error, ...nameAnswer(answer) }, "an answer whose end is refused could not be left"),
    );
    await charge(answer, final);
  }

  return {
    /** Stores the end, or releases the answer. @returns what was stored of the end; null: nothing. */
    async end(answer: RunningAnswer, ended: FinalState): Promise<FinalState | null> {
      const final = fitFinal(ended);
      try {
        const stored = answer.stop === "release" ? null : await finishAsFarAsPossible(answer, final);
        if (stored) return stored;
      } catch (error) {
        log.warn({ err: error, ...nameAnswer(answer) }, "the end of an answer is not stored here");
        if (!isTemporary(error)) {
          await leaveRefused(answer, final);
          return null;
        }
      }
      await release(answer, final).catch((error) =>
        log.warn({ err: error, ...nameAnswer(answer) }, "an answer could not be released"),
      );
      await charge(answer, final);
      return null;
    },

    /** Ends the connections that waited for locks. */
    close: finisher.close,
  };
}
