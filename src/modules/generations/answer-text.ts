import type { AnswerPart, RunEnd } from "../../ai/answer-part.ts";
import type { Chain } from "../../ai/chain/chain.ts";
import { followRun } from "../../ai/chain/follow.ts";
import { mapReplyFormat } from "../../ai/format/reply-format.ts";
import type { AnswerOptions, ModelFinishReason } from "../../ai/provider.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { isTemporary } from "../../db/retry.ts";
import { fitCount } from "../../db/storable.ts";
import type { StoredError } from "../../lib/error-codes.ts";
import type { Log } from "../../lib/log.ts";
import type { BudgetService } from "../budgets/service.ts";
import type { Context, ContextBuilder } from "./context.ts";
import type { ContextData } from "./context-queries.ts";
import type { LivePiece } from "./live-answer.ts";
import { getLeaseKey } from "./pieces.ts";
import type { ClaimedGeneration, FinalState } from "./queries.ts";
import * as queries from "./queries.ts";
import { getAnswerLogFields, type RunningAnswer, stopAnswer } from "./running-answer.ts";
import type { ToolRunner } from "./tool-runs.ts";

export type AnswerTextDependencies = {
  database: Database;
  chain: Chain;
  budgets: BudgetService;
  contextBuilder: ContextBuilder;
  toolRunner: ToolRunner;
  log: Log;
};

/** Creates the writer, which runs models to generate an answer's text. */
export function createAnswerWriter({
  database,
  chain,
  budgets,
  contextBuilder,
  toolRunner,
  log,
}: AnswerTextDependencies) {
  /** Stores a new attempt before it is pushed. If this instance then crashes, the next owner uses a higher attempt number. */
  async function storeAttempt(answer: RunningAnswer, piece: LivePiece): Promise<boolean> {
    const store = (sql: Sql) => queries.storePieces(sql, [{ ...getLeaseKey(answer.generation), ...piece }]);
    try {
      return (await withTransaction(database, store)).size > 0;
    } catch (error) {
      // This isn't fatal, because the attempt is also stored with the final state.
      log.warn({ err: error, ...getAnswerLogFields(answer) }, "the new attempt of an answer could not be stored");
      return false;
    }
  }

  async function reset(answer: RunningAnswer, part: Extract<AnswerPart, { type: "reset" }>): Promise<void> {
    const { live } = answer;
    const { text, reasoning = "", attempt } = part;
    const piece = live.createResetPiece(text, reasoning, attempt);
    const isStored = await storeAttempt(answer, piece);
    live.reset(text, reasoning, attempt);
    if (isStored) live.confirmStored(piece);
  }

  /** Sends a part to the readers. Text and reasoning are sent synchronously. */
  function deliver(answer: RunningAnswer, part: AnswerPart): Promise<void> | undefined {
    const { live } = answer;
    switch (part.type) {
      case "text":
        if (answer.firstTokenMs === null) recordFirstText(answer);
        live.append(part.text);
        return undefined;
      case "reasoning":
        live.appendReasoning(part.text);
        return undefined;
      case "reset":
        return reset(answer, part);
      case "start":
        live.startAttempt(part.attempt);
        return undefined;
      default:
        return part satisfies never;
    }
  }

  function startRun(answer: RunningAnswer, context: Context): Promise<RunEnd> {
    const { generation, live, abortController } = answer;
    const { model, messages } = context;
    // The attempt is zero only if no other instance has had the lease. A previous owner may have pushed text before it crashed, even if it
    // stored no piece. In that case, readers need a reset.
    const attempt = Math.max(generation.attempt, generation.fence - 1);
    const outputTokensMax = budgets.answerTokensMax;
    const logContext = { ...getAnswerLogFields(answer), conversation_id: generation.conversation_id };
    const options = mapToOptions(generation, context);
    const request = {
      model,
      messages,
      shouldFitModelLimits: true,
      outputTokensMax,
      options,
      signal: abortController.signal,
      logContext,
    };
    const deliverPart = (part: AnswerPart) => deliver(answer, part);
    if (hasTools(context.tools)) return toolRunner.run(answer, context.tools, attempt, request, deliverPart);
    const resume = attempt > 0 ? { text: live.text, reasoning: live.reasoning, attempt } : null;
    return followRun(chain.run, { ...request, resume }, deliverPart);
  }

  return {
    /**
     * Runs the models until the answer has ended. Doesn't throw: an error becomes part of the final state, or causes the answer to be
     * released.
     * @param contextData the context's data, if it was read when the question was committed.
     */
    async write(answer: RunningAnswer, contextData: ContextData | undefined): Promise<FinalState> {
      const { generation, live } = answer;
      const { conversation_id: conversationId, parent_id: fromId, requested_by: userId, model } = generation;
      try {
        const context = await contextBuilder.build({ conversationId, fromId, model, userId, contextData });
        answer.context = context;
        const end = await startRun(answer, context);
        return { ...mapToFinalState(end, answer), sources: context.sources };
      } catch (error) {
        log.error({ err: error, ...getAnswerLogFields(answer) }, "generation interrupted");
        // The answer can be continued by the first instance that can access the database.
        if (isTemporary(error)) stopAnswer(answer, "release");
      }
      live.flush();
      const error: StoredError = { code: "internal", detail: "The answer could not be generated. Try again." };
      const usageFields = { model: null, models: [], usage: null, costUsd: null };
      return {
        ...usageFields,
        content: live.text,
        reasoning: live.storedReasoning,
        status: "failed",
        finishReason: "error",
        error,
      };
    },
  };
}

const hasTools = (tools: Context["tools"]): tools is true | readonly string[] =>
  tools === true || (tools !== false && tools.length > 0);

/** Returns the answer's options. The message's options take precedence over the conversation's. */
function mapToOptions({ reasoning_effort, reply_format }: ClaimedGeneration, context: Context): AnswerOptions {
  return {
    reasoningEffort: reasoning_effort ?? context.reasoningEffort,
    format: reply_format && mapReplyFormat(reply_format),
  };
}

/** Records the time of the first text, which is unknown if the answer was taken over from another instance. */
function recordFirstText(answer: RunningAnswer): void {
  if (answer.generation.fence === 1) answer.firstTokenMs = fitCount(performance.now() - answer.startedAtMs);
}

/** Error details, by finish reason, for an answer with a requested format that was cut off. */
const cutOffDetails: Partial<Record<ModelFinishReason, string>> = {
  length: "The answer reached its maximum length before its JSON was complete.",
  content_filter: "The provider's content filter cut the answer off before its JSON was complete.",
};

function mapToFinalState(end: RunEnd, { generation, live, stopReason, firstTokenMs }: RunningAnswer): FinalState {
  live.flush();
  const { usage, costUsd, models } = end;
  // If the answer failed, `end.model` is the last model that was tried, even if it wrote no text.
  const textFields = { content: live.text, reasoning: live.storedReasoning };
  const commonFields = { ...textFields, usage, costUsd, model: end.model, models, firstTokenMs, error: null };
  if (end.type === "finish" && generation.reply_format && !end.output) {
    const detail = cutOffDetails[end.reason] ?? "The response doesn't have the requested format.";
    return { ...commonFields, status: "failed", finishReason: "error", error: { code: "invalid_output", detail } };
  }
  if (end.type === "finish")
    return { ...commonFields, status: "complete", finishReason: end.reason, output: end.output?.value };
  if (stopReason === "fail") {
    const error: StoredError = {
      code: "internal",
      detail: "The result of a tool could not be stored. Regenerate the answer.",
    };
    return { ...commonFields, status: "failed", finishReason: "error", error };
  }
  if (end.type === "aborted") return { ...commonFields, status: "cancelled", finishReason: "cancelled" };
  return { ...commonFields, status: "failed", finishReason: "error", error: { code: end.code, detail: end.detail } };
}
