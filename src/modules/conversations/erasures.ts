import type { Database } from "../../db/client.ts";
import { eraseDeleted, hasDeleted } from "./queries.ts";

/** Numbers of conversations that one transaction erases. */
const ERASED_SEQS = 5_000;

/** Erases the rows of deleted conversations, in batches that each commit, so that nobody waits for them. */
export function createErasures({ database }: { database: Database }) {
  return {
    isDue: (): Promise<boolean> => hasDeleted(database),

    /** For the job runner: erases all there is; what is interrupted is resumed by the next run, on any instance. */
    async run(signal: AbortSignal): Promise<void> {
      let erased = await eraseDeleted(database, ERASED_SEQS);
      while (erased.has_more && !signal.aborted) erased = await eraseDeleted(database, ERASED_SEQS, erased);
    },
  };
}

export type Erasures = ReturnType<typeof createErasures>;
