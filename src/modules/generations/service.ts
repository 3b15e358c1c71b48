import { type Caller, keyIdOf } from "../../access/caller.ts";
import type { Chain } from "../../ai/chain/chain.ts";
import { createUnsupportedFormat } from "../../ai/format/check-format.ts";
import { mapReplyFormat } from "../../ai/format/reply-format.ts";
import type { Changes } from "../../db/changes.ts";
import type { EventTransaction } from "../../events/log.ts";
import { createId } from "../../lib/id.ts";
import type { Lifecycle } from "../../lib/lifecycle.ts";
import { createUnknownModel, Problem } from "../../lib/problem.ts";
import type { Message } from "../../protocol/message.ts";
import type { SentMessage } from "../messages/model.ts";
import type { MessageService, NewAnswer } from "../messages/service.ts";
import type { FoundContext } from "./context-queries.ts";
import { RUNNING_MAX } from "./live-answers.ts";
import { mapNewAnswerToClaimed, mapNewAnswerToMessage } from "./new-answer.ts";
import * as newAnswers from "./new-answer-queries.ts";
import * as queries from "./queries.ts";
import { forgetFinished } from "./retention.ts";
import { createRunner, type RunnerDependencies } from "./runner.ts";
import { createWaitingAnswers, type KnownGeneration } from "./waiting-answers.ts";

export { createLiveAnswers, RUNNING_MAX } from "./live-answers.ts";
export type { Previews } from "./previews.ts";
export { countUnfinished } from "./queries.ts";

/** How long a cancel waits for the end to be stored, so that its response shows it. */
const CANCEL_WAIT_MS = 2_000;

/** Answers of models: stopping and regenerating them, and writing them on this instance. */
export interface GenerationService {
  /**
   * For members with write access: stops an answer. An ended answer stays as it is.
   * @throws Problem `not_found`, `forbidden`.
   */
  cancel(caller: Caller, conversationId: string | null, messageId: string): Promise<Message>;

  /**
   * For members with write access: generates another answer to the same message. The previous one stays and must have ended;
   * of two concurrent requests, one gets `conflict`. It uses the message's effort and format; without an effort, the
   * conversation's current one.
   * @param conversationId null if a frame omits it.
   * @param messageId an answer, or the message to answer.
   * @throws Problem `not_found`, `forbidden`, `unknown_model`, `invalid` (a model without support for the message's format),
   * `conflict`, `rate_limited`, `budget_exceeded`, `draining`.
   */
  regenerate(
    caller: Caller,
    conversationId: string | null,
    messageId: string,
    model: string | undefined,
  ): Promise<SentMessage & { reply: Message }>;

  /** For jobs: stores the new text of all answers written here, from which a successor would continue. */
  storePieces(): Promise<void>;
  /** For jobs: renews the leases, and applies stored stops. */
  renewLeases(): Promise<void>;
  /** For jobs: takes over answers of dead instances while there is room. */
  takeOrphans(): Promise<void>;

  /** For jobs: deletes generations that ended long ago; the answers stay. */
  forgetFinished(signal: AbortSignal): Promise<void>;

  /** Waits for the answers in progress; those left are released to a successor shortly before `deadlineMs` (since 1970). */
  drain(deadlineMs: number): Promise<void>;
  /** Closes the connections that waited for locks. */
  close(): Promise<void>;
}

type Dependencies = Omit<RunnerDependencies, "onEnd"> & {
  changes: Changes;
  chain: Chain;
  messages: MessageService;
  lifecycle: Lifecycle;
  /** Stores an answer if the user may have one more in progress. @throws Problem `rate_limited`. */
  storeAnswer<T>(userId: string, store: () => Promise<T>): Promise<T>;
};

/** Builds the service; from then on it writes every answer handed over to `liveAnswers`. */
export function createGenerationService(deps: Dependencies): GenerationService {
  const { database, changes, events, bus, chain, messages, lifecycle, budgets, liveAnswers, log, storeAnswer } = deps;
  const runner = createRunner({ ...deps, onEnd: () => waiting.fill() });
  const waiting = createWaitingAnswers({
    hasRoom: () => lifecycle.phase !== "draining" && liveAnswers.hasRoom(1),
    begin: claim,
  });

  function claim(key: KnownGeneration): void {
    runner
      .claim(key)
      .catch((error) => log.warn({ err: error, generation_id: key.id }, "generation could not be started"))
      // If another instance got it, its slot is free again.
      .finally(waiting.fill);
  }

  /**
   * Starts a committed answer. Without a free slot it stays pending until one is free here, or any instance's sweep claims
   * it. An answer committed while this instance shuts down is claimed by another one.
   */
  function begin({ isClaimed, context, requestId = null, ...answer }: NewAnswer): void {
    const { generationId: id, conversationId } = answer;
    if (isClaimed) {
      void runner.begin(mapNewAnswerToClaimed(answer), requestId, (context as FoundContext | null) ?? undefined);
      return;
    }
    if (lifecycle.phase === "draining") return;
    if (liveAnswers.hasRoom(1)) claim({ conversationId, id, requestId });
    else waiting.add({ conversationId, id, requestId });
  }
  liveAnswers.onHandOver(begin);

  /** The message to answer. @throws Problem `not_found`, `forbidden`, `conflict`. */
  async function getQuestion(caller: Caller, conversationId: string | null, messageId: string): Promise<Message> {
    const chosen = await messages.getWritable(caller, conversationId, messageId);
    if (chosen.status === "streaming") throw createBeingWritten();
    const isAnswer = chosen.role === "assistant" && chosen.parent_id !== null;
    const question = isAnswer ? await messages.get(caller, chosen.conversation_id, chosen.parent_id ?? "") : chosen;
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
        queries.requestCancel(sql, { conversation_id, seq }),
      );
      if (generation !== undefined) {
        const ended = liveAnswers.findByMessage(id)?.done;
        bus.publish("generations", () => [{ type: "generation.cancelled", message_id: id }]);
        await Promise.race([ended, Bun.sleep(CANCEL_WAIT_MS)]);
      }
      return messages.get(caller, conversation_id, id);
    },

    async regenerate(caller, knownId, messageId, model) {
      if (model !== undefined && !chain.has(model)) throw createUnknownModel(model);
      if (lifecycle.phase === "draining")
        throw new Problem("draining", "This instance is shutting down. Retry the request.", { retryAfterMs: 1_000 });
      const message = await getQuestion(caller, knownId, messageId);
      const conversationId = message.conversation_id;
      const payer = { userId: caller.user.id, keyId: keyIdOf(caller) };
      const insert = ({ sql, append }: EventTransaction) =>
        append("message.created", conversationId, async (position) => {
          if (await newAnswers.isBeingAnswered(sql, conversationId, message.id)) throw createBeingWritten();
          const settings = await newAnswers.findAnswerSettings(sql, conversationId, message.id);
          const { replyFormat } = settings;
          if (model !== undefined && replyFormat && !chain.canAnswerIn(mapReplyFormat(replyFormat), model))
            throw createUnsupportedFormat(model, "#/model");
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
          // The question is part of the conversation, which is counted already; its format is not.
          const contentBytes = replyFormat ? Buffer.byteLength(JSON.stringify(replyFormat)) : 0;
          await budgets.reserveAnswer(sql, { ...row, ...payer, contentBytes });
          await newAnswers.insertAnswer(sql, row, position);
          answer = {
            ...row,
            seq: position.seq,
            isClaimed: false,
            context: null,
            requestId: caller.requestId ?? null,
          };
          return mapNewAnswerToMessage(row, position);
        });
      let answer: NewAnswer | undefined;
      const reply = await storeAnswer(caller.user.id, () => events.write(conversationId, insert));
      if (answer) begin(answer);
      return { message, reply };
    },

    storePieces: runner.storePieces,
    renewLeases: runner.renewLeases,
    takeOrphans() {
      const room = lifecycle.phase === "ready" ? RUNNING_MAX - liveAnswers.count() : 0;
      return room > 0 ? runner.takeOrphans(room) : Promise.resolve();
    },
    forgetFinished: (signal) => forgetFinished(database, signal),
    drain: runner.drain,
    close: runner.close,
  };
}

const createBeingWritten = (): Problem =>
  new Problem("conflict", "An answer to this message is still in progress. Wait for it, or cancel it first.");
