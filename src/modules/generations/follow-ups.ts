import type { Writer } from "../../ai/chain/writer.ts";
import type { BudgetOf } from "../../ai/models.ts";
import type { RunContext } from "../../ai/run-context.ts";
import type { Changes } from "../../db/changes.ts";
import type { Database } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { ConversationService, ConversationWork } from "../conversations/service.ts";
import { createBackground } from "./background.ts";
import type { Context } from "./context.ts";
import { createSummaries, SUMMARY_START_SHARE } from "./summaries.ts";
import { createTitles } from "./titles.ts";

export type FollowUpDependencies = {
  database: Database;
  changes: Changes;
  conversations: ConversationService;
  budgetOf: BudgetOf;
  /** Null if no model can write titles and summaries. */
  writer: Writer | null;
  log: Log;
};

/** A finished answer: its number, its text, its model's context, and who asked. */
type Answered = {
  conversationId: string;
  seq: number;
  text: string;
  context: Context;
  askerId: string | null;
  /** The answer, for the log. */
  about: RunContext;
};

/**
 * Background work after an answer: the title of a new conversation, the summary of a long one. It ends with the
 * conversation.
 */
export interface FollowUps extends ConversationWork {
  /** Call once the end of an answer is stored. Returns immediately and doesn't throw. */
  begin(answered: Answered): void;
  /** Aborts all work and waits for it until `deadlineMs` (milliseconds since 1970). */
  stop(deadlineMs: number): Promise<void>;
}

/** Builds the service. */
export function createFollowUps(deps: FollowUpDependencies): FollowUps {
  const { database, changes, conversations, budgetOf, writer, log } = deps;
  const background = createBackground({ log });
  const titles = createTitles({ conversations, writer, log });
  const summaries = writer && createSummaries({ database, changes, budgetOf, writer });

  return {
    begin({ conversationId, seq, text: answer, context, askerId: payerId, about }) {
      const { model, messages, history, isCut, isUntitled } = context;
      const question = messages.findLast(({ role }) => role === "user")?.content ?? "";
      if (isUntitled)
        background.run(
          "title",
          conversationId,
          (signal) =>
            titles.generate({ conversationId, question, answer, payerId, about: { ...about, task: "title" } }, signal),
          about,
        );
      const isFull = isCut || history.tokens > history.tokensMax * SUMMARY_START_SHARE;
      const historyTokensMax = history.tokensMax;
      if (isFull && summaries && !model.startsWith("offline/"))
        background.run(
          "summary",
          conversationId,
          (signal) =>
            summaries.extend(
              { conversationId, untilSeq: seq, model, historyTokensMax, payerId, about: { ...about, task: "summary" } },
              signal,
            ),
          about,
        );
    },

    listConversations: background.listIds,
    endConversations: background.end,
    stop: background.stop,
  };
}
