import type { AnswerPart, RunEnd } from "../../ai/answer-part.ts";
import type { Chain } from "../../ai/chain/chain.ts";
import { follow } from "../../ai/chain/follow.ts";
import { mapReplyFormat } from "../../ai/format/reply-format.ts";
import type { AnswerOptions, ModelFinishReason } from "../../ai/provider.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { isTemporary } from "../../db/retry.ts";
import { fitCount } from "../../db/storable.ts";
import type { StoredError } from "../../lib/error-codes.ts";
import type { Log } from "../../lib/log.ts";
import type { BudgetService } from "../budgets/service.ts";
import type { Context, Contexts } from "./context.ts";
import type { FoundContext } from "./context-queries.ts";
import type { LivePiece } from "./live-answer.ts";
import { keyOf } from "./pieces.ts";
import type { ClaimedGeneration, FinalState } from "./queries.ts";
import * as queries from "./queries.ts";
import { nameAnswer, type RunningAnswer, stopAnswer } from "./running-answer.ts";
import type { ToolRuns } from "./tool-runs.ts";

export type AnswerTextDependencies = {
  database: Database;
  chain: Chain;
  budgets: BudgetService;
  contexts: Contexts;
  toolRuns: ToolRuns;
  log: Log;
};

/** Has the models write the text of an answer. */
export function createAnswerTexts({ database, chain, budgets, contexts, toolRuns, log }: AnswerTextDependencies) {
  /** Before readers see the new attempt: a successor must go on with a higher one, should this instance die now. */
  async function storeAttempt(answer: RunningAnswer, piece: LivePiece): Promise<boolean> {
    const store = (sql: Sql) => queries.storePieces(sql, [{ ...keyOf(answer.generation), ...piece }]);
    try {
      return (await withTransaction(database, store)).size > 0;
    } catch (error) {
      // Not a reason to end the answer: its end is stored with the attempt.
      log.warn({ err: error, ...nameAnswer(answer) }, "the new attempt of an answer could not be stored");
      return false;
    }
  }

  async function reset(answer: RunningAnswer, part: { attempt: number; text: string }): Promise<void> {
    const piece = { attempt: part.attempt, n: 1, text: part.text };
    const isStored = await storeAttempt(answer, piece);
    const { live } = answer;
    live.reset(part.text, part.attempt);
    if (isStored) live.confirm(piece);
  }

  /** Brings a part to the readers: a text in the tick in which it comes. */
  function take(answer: RunningAnswer, part: AnswerPart): Promise<void> | undefined {
    if (part.type === "text") {
      answer.live.append(part.text);
      return undefined;
    }
    // The first text is about to come. Of one that was taken over, nobody knows when it came.
    if (answer.generation.fence === 1) answer.firstTokenMs ??= fitCount(performance.now() - answer.startedAtMs);
    if (part.type === "reset") return reset(answer, part);
    answer.live.begin(part.attempt);
    return undefined;
  }

  function startRun(answer: RunningAnswer, context: Context): Promise<RunEnd> {
    const { generation, live, abort } = answer;
    const { model, messages } = context;
    // An owner that died before it stored its first piece may have shown text all the same: its readers need a reset.
    const attempt = Math.max(generation.attempt, generation.fence - 1);
    const outputTokensMax = budgets.answerTokensMax;
    const about = nameAnswer(answer);
    const options = mapToOptions(generation, context);
    const request = { model, messages, isFitted: true, outputTokensMax, options, signal: abort.signal, about };
    const takePart = (part: AnswerPart) => take(answer, part);
    if (hasTools(context.tools)) return toolRuns.run(answer, context.tools, attempt, request, takePart);
    const resume = attempt > 0 ? { text: live.text, attempt } : null;
    return follow(chain.run, { ...request, resume }, takePart);
  }

  return {
    /**
     * Writes the text to its end. Nothing is thrown: what goes wrong is part of the state, or releases the answer.
     * @param found what the answer is made from, where that was read with the commit of the question.
     */
    async write(answer: RunningAnswer, found: FoundContext | undefined): Promise<FinalState> {
      const { generation, live } = answer;
      const { conversation_id: conversationId, parent_id: fromId, requested_by: userId, model } = generation;
      try {
        const context = await contexts.build({ conversationId, fromId, model, userId, found });
        answer.context = context;
        const end = await startRun(answer, context);
        return { ...mapToFinalState(end, answer), sources: context.sources };
      } catch (error) {
        log.error({ err: error, ...nameAnswer(answer) }, "generation interrupted");
        // Nothing is wrong with the answer itself: whoever reaches the database first goes on with it.
        if (isTemporary(error)) stopAnswer(answer, "release");
      }
      live.flush();
      const error: StoredError = { code: "internal", detail: "The answer could not be written." };
      const account = { model: null, models: [], usage: null, costUsd: null };
      return { ...account, content: live.text, status: "failed", finishReason: "error", error };
    },
  };
}

const hasTools = (tools: Context["tools"]): tools is true | readonly string[] =>
  tools === true || (tools !== false && tools.length > 0);

/** What the message asked for, and else the conversation. */
function mapToOptions({ reasoning_effort, reply_format }: ClaimedGeneration, context: Context): AnswerOptions {
  return {
    reasoningEffort: reasoning_effort ?? context.reasoningEffort,
    format: reply_format && mapReplyFormat(reply_format),
  };
}

/** Where a format was asked for, a text that was cut off before it had one is no answer. */
const cutOff: Partial<Record<ModelFinishReason, string>> = {
  length: "The answer reached its longest length before its JSON was complete.",
  content_filter: "The provider's content filter cut the answer off before its JSON was complete.",
};

function mapToFinalState(end: RunEnd, { generation, live, stop, firstTokenMs }: RunningAnswer): FinalState {
  live.flush();
  const { usage, costUsd, models } = end;
  // Where it did not end well: the model that was asked last, whether it has written anything or not.
  const account = { content: live.text, usage, costUsd, model: end.model, models, firstTokenMs, error: null };
  if (end.type === "finish" && generation.reply_format && !end.output) {
    const detail = cutOff[end.reason] ?? "The answer doesn't have the format that was asked for.";
    return { ...account, status: "failed", finishReason: "error", error: { code: "invalid_output", detail } };
  }
  if (end.type === "finish")
    return { ...account, status: "complete", finishReason: end.reason, output: end.output?.value };
  if (stop === "fail") {
    const error: StoredError = {
      code: "internal",
      detail: "What a tool gave could not be stored. Ask for the answer again.",
    };
    return { ...account, status: "failed", finishReason: "error", error };
  }
  if (end.type === "aborted") return { ...account, status: "cancelled", finishReason: "cancelled" };
  return { ...account, status: "failed", finishReason: "error", error: { code: end.code, detail: end.detail } };
}
