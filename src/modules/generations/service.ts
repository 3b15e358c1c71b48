import { type Caller, getKeyId } from "../../access/caller.ts";
import type { Chain } from "../../ai/chain/chain.ts";
import { createUnsupportedFormatProblem } from "../../ai/format/check-format.ts";
import { mapReplyFormat } from "../../ai/format/reply-format.ts";
import type { ChangeRunner } from "../../db/changes.ts";
import type { EventTransaction } from "../../events/log.ts";
import { createId } from "../../lib/id.ts";
import type { Lifecycle } from "../../lib/lifecycle.ts";
import { createUnknownModelProblem, Problem } from "../../lib/problem.ts";
import type { Message } from "../../protocol/message.ts";
import type { SentMessage } from "../messages/model.ts";
import type { MessageService, NewAnswer } from "../messages/service.ts";
import type { ContextData } from "./context-queries.ts";
import { RUNNING_ANSWERS_MAX } from "./live-answers.ts";
import { mapNewAnswerToClaimedGeneration, mapNewAnswerToMessage } from "./new-answer.ts";
import * as newAnswers from "./new-answer-queries.ts";
import * as queries from "./queries.ts";
import { deleteFinished } from "./retention.ts";
import { createAnswerRunner, type RunnerDependencies } from "./runner.ts";
import { createWaitingAnswerQueue, type PendingGeneration } from "./waiting-answers.ts";

export { createLiveAnswerRegistry, RUNNING_ANSWERS_MAX } from "./live-answers.ts";
export type { PreviewBuilder } from "./previews.ts";
export { countUnfinished } from "./queries.ts";

/** The maximum time that a cancel request waits for the final state to be stored, so that the response contains it. */
const CANCEL_WAIT_TIMEOUT_MS = 2_000;

/** Cancels and regenerates model answers, and writes them on this instance. */
export interface GenerationService {
  /**
   * Cancels an answer. Members with write access only. An answer that has ended isn't changed.
   * @throws Problem `not_found`, `forbidden`.
   */
  cancel(caller: Caller, conversationId: string | null, messageId: string): Promise<Message>;

  /**
   * Generates a new answer to the same message. Members with write access only. The previous answer is kept and must have ended. If two
   * requests are concurrent, one of them fails with `conflict`. The new answer uses the message's format and reasoning effort. If the
   * message specifies no effort, the conversation's effort is used.
   * @param conversationId null if the client's frame omits it.
   * @param messageId an answer, or the message to answer.
   * @throws Problem `not_found`, `forbidden`, `unknown_model`, `invalid` (the model doesn't support the message's format), `conflict`,
   * `rate_limited`, `budget_exceeded`, `draining`.
   */
  regenerate(
    caller: Caller,
    conversationId: string | null,
    messageId: string,
    model: string | undefined,
  ): Promise<SentMessage & { reply: Message }>;

  /**
   * Stores the new text of all answers that this instance is writing. After a crash, another instance continues from the stored text.
   * Called by a job.
   */
  storePieces(): Promise<void>;
  /** Renews the leases and applies stored cancellations. Called by a job. */
  renewLeases(): Promise<void>;
  /** Takes over as many of the crashed instances' answers as there are free slots. Called by a job. */
  takeOverOrphans(): Promise<void>;

  /** Deletes generations that finished long ago. The answers are kept. Called by a job. */
  deleteFinished(signal: AbortSignal): Promise<void>;

  /**
   * Waits for the answers in progress. Shortly before `deadlineMs` (milliseconds since 1970), releases unfinished ones to other
   * instances.
   */
  drain(deadlineMs: number): Promise<void>;
  /** Closes the connections for commits. */
  close(): Promise<void>;
}

type Dependencies = Omit<RunnerDependencies, "onEnd"> & {
  changes: ChangeRunner;
  chain: Chain;
  messages: MessageService;
  lifecycle: Lifecycle;
  /** Stores an answer, unless the user has too many in progress. @throws Problem `rate_limited`. */
  storeAnswer<T>(userId: string, store: () => Promise<T>): Promise<T>;
};

/** Creates the service. Once created, it writes all answers that are handed over to `liveAnswers`. */
export function createGenerationService(deps: Dependencies): GenerationService {
  const { database, changes, events, bus, chain, messages, lifecycle, budgets, liveAnswers, log, storeAnswer } = deps;
  const runner = createAnswerRunner({ ...deps, onEnd: () => waitingAnswers.startNext() });
  const waitingAnswers = createWaitingAnswerQueue({
    hasFreeSlots: () => lifecycle.phase !== "draining" && liveAnswers.hasFreeSlots(1),
    startClaim,
  });

  function startClaim(generation: PendingGeneration): void {
    runner
      .claim(generation)
      .catch((error) => log.warn({ err: error, generation_id: generation.id }, "generation could not be started"))
      // If another instance was faster, the slot is free again.
      .finally(waitingAnswers.startNext);
  }

  /**
   * Starts a committed answer. If there is no free slot, the answer stays pending until this instance has one, or until a job on any
   * instance claims it. An answer that is committed while this instance is shutting down is claimed by another instance.
   */
  function startAnswer({ isClaimed, context, requestId = null, trace, ...answer }: NewAnswer): void {
    const { generationId: id, conversationId } = answer;
    if (isClaimed) {
      const contextData = (context as ContextData | null) ?? undefined;
      void runner.startAnswer(mapNewAnswerToClaimedGeneration(answer), { requestId, trace, contextData });
      return;
    }
    if (lifecycle.phase === "draining") return;
    if (liveAnswers.hasFreeSlots(1)) startClaim({ conversationId, id, requestId, trace });
    else waitingAnswers.add({ conversationId, id, requestId, trace });
  }
  liveAnswers.onHandOver(startAnswer);

  /** Finds the message to answer. @throws Problem `not_found`, `forbidden`, `conflict`. */
  async function getQuestion(caller: Caller, conversationId: string | null, messageId: string): Promise<Message> {
    const target = await messages.getWritable(caller, conversationId, messageId);
    if (target.status === "streaming") throw createStillInProgressProblem();
    const isAnswer = target.role === "assistant" && target.parent_id !== null;
    const question = isAnswer ? await messages.get(caller, target.conversation_id, target.parent_id ?? "") : target;
    if (question.role !== "user" || question.deleted_at)
      throw new Problem("conflict", "The message that this answer replies to was deleted.");
    return question;
  }

  return {
    async cancel(caller, conversationId, messageId) {
      const message = await messages.getWritable(caller, conversationId, messageId);
      if (message.status !== "streaming") return message;
      const { id, seq, conversation_id } = message;
      const generation = await changes.run(conversation_id, (sql) =>
        queries.requestCancellation(sql, { conversation_id, seq }),
      );
      if (generation !== undefined) {
        const done = liveAnswers.findByMessage(id)?.done;
        bus.publish("generations", () => [{ type: "generation.cancelled", message_id: id }]);
        await Promise.race([done, Bun.sleep(CANCEL_WAIT_TIMEOUT_MS)]);
      }
      return messages.get(caller, conversation_id, id);
    },

    async regenerate(caller, requestedConversationId, messageId, model) {
      if (model !== undefined && !chain.has(model)) throw createUnknownModelProblem(model);
      if (lifecycle.phase === "draining")
        throw new Problem("draining", "This instance is shutting down. Retry the request.", { retryAfterMs: 1_000 });
      const message = await getQuestion(caller, requestedConversationId, messageId);
      const conversationId = message.conversation_id;
      const payer = { userId: caller.user.id, keyId: getKeyId(caller) };
      const insert = ({ sql, append }: EventTransaction) =>
        append("message.created", conversationId, async (position) => {
          if (await newAnswers.isBeingAnswered(sql, conversationId, message.id)) throw createStillInProgressProblem();
          const settings = await newAnswers.findAnswerSettings(sql, conversationId, message.id);
          const { replyFormat } = settings;
          if (model !== undefined && replyFormat && !chain.canAnswerIn(mapReplyFormat(replyFormat), model))
            throw createUnsupportedFormatProblem(model, "#/model");
          const row = {
            generationId: createId(),
            messageId: createId(),
            conversationId,
            parentId: message.id,
            model: model ?? settings.model ?? chain.defaultModel,
            requestedBy: caller.user.id,
            reasoningEffort: settings.reasoningEffort,
            replyFormat,
          };
          // The question is already counted as part of the conversation, but its format isn't.
          const contentBytes = replyFormat ? Buffer.byteLength(JSON.stringify(replyFormat)) : 0;
          await budgets.reserveAnswer(sql, { ...row, ...payer, contentBytes });
          await newAnswers.insertAnswer(sql, row, position);
          answer = {
            ...row,
            seq: position.seq,
            isClaimed: false,
            context: null,
            requestId: caller.requestId ?? null,
            trace: deps.tracing?.getCurrentContext(),
          };
          return mapNewAnswerToMessage(row, position);
        });
      let answer: NewAnswer | undefined;
      const reply = await storeAnswer(caller.user.id, () => events.write(conversationId, insert));
      if (answer) startAnswer(answer);
      return { message, reply };
    },

    storePieces: runner.storePieces,
    renewLeases: runner.renewLeases,
    takeOverOrphans() {
      const freeSlots = lifecycle.phase === "ready" ? RUNNING_ANSWERS_MAX - liveAnswers.count() : 0;
      return freeSlots > 0 ? runner.takeOverOrphans(freeSlots) : Promise.resolve();
    },
    deleteFinished: (signal) => deleteFinished(database, signal),
    drain: runner.drain,
    close: runner.close,
  };
}

const createStillInProgressProblem = (): Problem =>
  new Problem("conflict", "An answer to this message is still in progress. Wait for it, or cancel it first.");
