import type { Caller } from "../../access/caller.ts";
import { type Database, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import type { QuotaService } from "../quotas/service.ts";
import * as queries from "./feedback-queries.ts";
import type { Feedback, GiveFeedback } from "./model.ts";
import type { VisibleRow } from "./queries.ts";

/** Ratings of answers, one per member and answer. */
export interface FeedbackService {
  /**
   * Stores the caller's rating of a model's answer. Members only.
   * @throws Problem `not_found`, `conflict`, `quota_exceeded`.
   */
  giveFeedback(caller: Caller, conversationId: string, messageId: string, feedback: GiveFeedback): Promise<Feedback>;

  /** Removes the caller's rating. Members only. @throws Problem `not_found`, `conflict`. */
  removeFeedback(caller: Caller, conversationId: string, messageId: string): Promise<void>;
}

type Dependencies = {
  database: Database;
  quotas: QuotaService;
  /** Returns a message visible to the caller. @throws Problem `not_found`. */
  getRow(caller: Caller, conversationId: string, messageId: string): Promise<VisibleRow>;
};

export function createFeedbackService({ database, quotas, getRow }: Dependencies): FeedbackService {
  async function getAnswer(caller: Caller, conversationId: string, messageId: string): Promise<VisibleRow> {
    const row = await getRow(caller, conversationId, messageId);
    if (row.role !== "assistant" || row.deleted_at)
      throw new Problem("conflict", "Only a model's answers can be rated.");
    return row;
  }

  return {
    async giveFeedback(caller, conversationId, messageId, { rating, comment }) {
      const row = await getAnswer(caller, conversationId, messageId);
      const userId = caller.user.id;
      const upsert = (sql: Sql) => queries.upsertFeedback(sql, row, userId, rating, comment ?? null);
      const store = () => withTransaction(database, upsert, `message:${row.id}`);
      const isRated = await queries.hasFeedback(database, row, userId);
      return isRated ? store() : quotas.reserve("feedback", userId, 1, store);
    },

    async removeFeedback(caller, conversationId, messageId) {
      const row = await getAnswer(caller, conversationId, messageId);
      const remove = (sql: Sql) => queries.deleteFeedback(sql, row, caller.user.id);
      requireRow((await withTransaction(database, remove, `message:${row.id}`)) || undefined, "rating");
      quotas.invalidate(caller.user.id);
    },
  };
}
