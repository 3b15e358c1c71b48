import { type Database, getReservedPool } from "../../db/client.ts";
import { eraseDeleted, hasDeleted, listDeleted } from "./queries.ts";

/** Numbers of conversations that one transaction erases. */
const ERASED_SEQS = 5_000;

/** Work that stands in conversations, and ends when they are deleted, on any instance. */
export type ConversationWork = {
  listConversations(): string[];
  endConversations(deleted: ReadonlySet<string>): void;
};

/** Erases the rows of deleted conversations, in batches that each commit, so that nobody waits for them. */
export function createErasures({ database }: { database: Database }) {
  return {
    /** For the job runner: ends work in conversations that were deleted. */
    async endWork(work: ConversationWork): Promise<void> {
      const ids = work.listConversations();
      if (ids.length === 0) return;
      const deleted = new Set(await listDeleted(getReservedPool(database), [...new Set(ids)]));
      if (deleted.size > 0) work.endConversations(deleted);
    },

    isDue: (): Promise<boolean> => hasDeleted(database),

    /** For the job runner: erases all there is; what is interrupted is resumed by the next run, on any instance. */
    async run(signal: AbortSignal): Promise<void> {
      let erased = await eraseDeleted(database, ERASED_SEQS);
      while (erased.has_more && !signal.aborted) erased = await eraseDeleted(database, ERASED_SEQS, erased);
    },
  };
}

export type Erasures = ReturnType<typeof createErasures>;
