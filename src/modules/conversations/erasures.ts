import { type Database, getReservedPool } from "../../db/client.ts";
import { eraseDeletedBatch, hasDeleted, listDeleted } from "./queries.ts";

/** The number of sequence numbers whose messages and events are erased per transaction. */
const SEQS_PER_TRANSACTION = 5_000;

/** Work that must stop when any instance deletes its conversation. */
export type ConversationWork = {
  listConversations(): string[];
  stopWorkForDeleted(deleted: ReadonlySet<string>): void;
};

/** Creates the jobs that clean up after deleted conversations. Batches are committed separately, so that no request waits long. */
export function createErasureJobs({ database }: { database: Database }) {
  return {
    /** Job: stops work in deleted conversations. */
    async stopWork(work: ConversationWork): Promise<void> {
      const ids = work.listConversations();
      if (ids.length === 0) return;
      const deleted = new Set(await listDeleted(getReservedPool(database), [...new Set(ids)]));
      if (deleted.size > 0) work.stopWorkForDeleted(deleted);
    },

    isDue: (): Promise<boolean> => hasDeleted(database),

    /** Job: erases all deleted conversations. If it is interrupted, the next run on any instance continues the erasure. */
    async run(signal: AbortSignal): Promise<void> {
      let erased = await eraseDeletedBatch(database, SEQS_PER_TRANSACTION);
      while (erased.has_more && !signal.aborted)
        erased = await eraseDeletedBatch(database, SEQS_PER_TRANSACTION, erased);
    },
  };
}

export type ErasureJobs = ReturnType<typeof createErasureJobs>;
