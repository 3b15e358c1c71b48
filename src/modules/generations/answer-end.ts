import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { retryTemporary } from "../../db/retry.ts";
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
import type { RunningAnswer } from "./running-answer.ts";

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
};

/** Stores the ends of answers, with what they cost, or leaves them to a successor. */
export function createAnswerEnds(deps: AnswerEndDependencies) {
  const { database, events, budgets, followUps, liveAnswers, pieces, metrics, log, instanceId } = deps;
  const finisher = createFinisher({ database });

  /**
   * Stores the final state with its event and its cost in one transaction, pushes it, and lets go of the lease. While that
   * fails with what is temporary, such as a locked conversation, it is tried again, and the lease is renewed.
   * @returns false when the answer was released before that.
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
    const { conversation_id: conversationId, message_id: messageId, requested_by: userId } = generation;
    const stored = await finisher.finish({ generation, attempt: live.attempt, final });
    if (stored.outcome !== "finished") {
      // Nobody else will: with the conversation, the generation is gone, and only its reservation is left.
      if (stored.outcome === "gone")
        return budgets.settle({ id: answer.chargeId, reservationId: generation.id }, userId, final);
      log.warn({ message_id: messageId }, "generation was taken over; its end is not stored here");
      return charge(answer, final);
    }
    metrics.messages.inc({ role: "assistant" });
    // First, so that nobody who joins now is told of an answer in progress after its end.
    liveAnswers.remove(answer);
    events.publish([stored.event]);
    if (context && final.status === "complete")
      followUps.begin({ conversationId, seq: generation.seq, text: final.content, context, askerId: userId });
  }

  /**
   * The successor settles; what was used here comes on top. The end may still wait for its commit, or be committed
   * without a response: so it is released here again, which refuses the end or finds it stored, and charged.
   */
  function charge({ generation, chargeId }: RunningAnswer, final: FinalState): Promise<void> {
    const isDue = (sql: Sql) => queries.releaseGeneration(sql, instanceId, keyOf(generation));
    return budgets.charge(generation.requested_by, final, { id: chargeId, isDue });
  }

  async function release(answer: RunningAnswer): Promise<void> {
    await pieces.store(answer, (write) =>
      withTransaction(database, async (sql) => {
        await write(sql);
        await queries.releaseGeneration(sql, instanceId, keyOf(answer.generation));
      }),
    );
  }

  return {
    /** Stores the end, or releases the answer. @returns whether the end is stored. */
    async end(answer: RunningAnswer, final: FinalState): Promise<boolean> {
      if (answer.stop !== "release" && (await finish(answer, final))) return true;
      await release(answer).catch((error) => log.warn({ err: error }, "an answer could not be released"));
      await charge(answer, final);
      return false;
    },

    /** Ends the connections that waited for locks. */
    close: finisher.close,
  };
}
