import type { Writer } from "../../ai/chain/writer.ts";
import type { GetBudget } from "../../ai/models.ts";
import type { RunContext } from "../../ai/run-context.ts";
import type { ChangeRunner } from "../../db/changes.ts";
import type { Database } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { ConversationService, ConversationWork } from "../conversations/service.ts";
import { createBackgroundQueue } from "./background.ts";
import type { Context } from "./context.ts";
import { createSummarizer, SUMMARY_START_SHARE } from "./summaries.ts";
import { createTitleGenerator } from "./titles.ts";

export type FollowUpDependencies = {
  database: Database;
  changes: ChangeRunner;
  conversations: ConversationService;
  getBudget: GetBudget;
  /** Null if no model can write titles and summaries. */
  writer: Writer | null;
  log: Log;
};

/** A finished answer, its context, and the user who requested it. */
type FinishedAnswer = {
  conversationId: string;
  seq: number;
  text: string;
  context: Context;
  requesterId: string | null;
  /** Identifies the answer in log lines. */
  logContext: RunContext;
};

/**
 * Runs background work after an answer: generates the title of a new conversation, and the summary of a long one. The work stops when
 * the conversation is deleted.
 */
export interface FollowUpRunner extends ConversationWork {
  /** Starts the work after a finished answer is stored. Returns immediately and doesn't throw. */
  begin(finished: FinishedAnswer): void;
  /** Aborts all work and waits for it until `deadlineMs` (milliseconds since 1970). */
  stop(deadlineMs: number): Promise<void>;
}

export function createFollowUpRunner(deps: FollowUpDependencies): FollowUpRunner {
  const { database, changes, conversations, getBudget, writer, log } = deps;
  const background = createBackgroundQueue({ log });
  const titleGenerator = createTitleGenerator({ conversations, writer, log });
  const summarizer = writer && createSummarizer({ database, changes, getBudget, writer });

  return {
    begin({ conversationId, seq, text: answer, context, requesterId: payerId, logContext }) {
      const { model, messages, history, isTruncated, isUntitled } = context;
      const question = messages.findLast(({ role }) => role === "user")?.content ?? "";
      if (isUntitled)
        background.run(
          "title",
          conversationId,
          (signal) =>
            titleGenerator.generate(
              { conversationId, question, answer, payerId, logContext: { ...logContext, task: "title" } },
              signal,
            ),
          logContext,
        );
      const isNearlyFull = isTruncated || history.tokens > history.tokensMax * SUMMARY_START_SHARE;
      const historyTokensMax = history.tokensMax;
      if (isNearlyFull && summarizer && !model.startsWith("offline/"))
        background.run(
          "summary",
          conversationId,
          (signal) =>
            summarizer.extendSummary(
              {
                conversationId,
                untilSeq: seq,
                model,
                historyTokensMax,
                payerId,
                logContext: { ...logContext, task: "summary" },
              },
              signal,
            ),
          logContext,
        );
    },

    listConversationIds: background.listConversationIds,
    abortWork: background.abortWork,
    stop: background.stop,
  };
}
