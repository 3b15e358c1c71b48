import { type Database, getReservedPool } from "../../db/client.ts";
import { eraseDeleted, hasDeleted, listDeleted } from "./queries.ts";

/** Sequence numbers erased per transaction. */
const ERASED_SEQS = 5_000;

/** Work for conversations that must stop when a conversation is deleted by any instance. */
export type ConversationWork = {
  listConversations(): string[];
  endConversations(deleted: ReadonlySet<string>): void;
};

/** Erases the rows of deleted conversations in batches that commit separately, so that no request waits for them. */
export function createErasures({ database }: { database: Database }) {
  return {
    /** Stops work for deleted conversations, as a job. */
    async endWork(work: ConversationWork): Promise<void> {
      const ids = work.listConversations();
      if (ids.length === 0) return;
      const deleted = new Set(await listDeleted(getReservedPool(database), [...new Set(ids)]));
      if (deleted.size > 0) work.endConversations(deleted);
    },

    isDue: (): Promise<boolean> => hasDeleted(database),

    /** Erases everything pending, as a job. If it is interrupted, the next run on any instance continues. */
    async run(signal: AbortSignal): Promise<void> {
      let erased = await eraseDeleted(database, ERASED_SEQS);
      while (erased.has_more && !signal.aborted) erased = await eraseDeleted(database, ERASED_SEQS, erased);
    },
  };
}

export type Erasures = ReturnType<typeof createErasures>;
