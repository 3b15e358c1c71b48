import { type Database, getReservedPool } from "../../db/client.ts";
import { eraseDeletedBatch, hasDeletedConversations, listDeletedIds } from "./queries.ts";

/** The number of sequence numbers whose messages and events are erased per transaction. */
const SEQS_PER_TRANSACTION = 5_000;

/** Background work for conversations, which must stop when any instance deletes the conversation. */
export type ConversationWork = {
  listConversationIds(): string[];
  /** Aborts the work for these conversations. */
  abortWork(conversationIds: ReadonlySet<string>): void;
};

/** Creates the jobs that clean up after deleted conversations. Batches are committed separately, so that no request waits long. */
export function createErasureJobs({ database }: { database: Database }) {
  return {
    /** Job: stops work for deleted conversations. */
    async stopWork(work: ConversationWork): Promise<void> {
      const ids = work.listConversationIds();
      if (ids.length === 0) return;
      const deleted = new Set(await listDeletedIds(getReservedPool(database), [...new Set(ids)]));
      if (deleted.size > 0) work.abortWork(deleted);
    },

    isDue: (): Promise<boolean> => hasDeletedConversations(database),

    /** Job: erases all deleted conversations. If it is interrupted, the next run on any instance continues the erasure. */
    async run(signal: AbortSignal): Promise<void> {
      let state = await eraseDeletedBatch(database, SEQS_PER_TRANSACTION);
      while (state.has_more && !signal.aborted) state = await eraseDeletedBatch(database, SEQS_PER_TRANSACTION, state);
    },
  };
}

export type ErasureJobs = ReturnType<typeof createErasureJobs>;
