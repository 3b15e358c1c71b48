import type { Database } from "../../db/client.ts";
import { eraseDeleted } from "./queries.ts";

/** Rows of each table that one transaction erases. */
export const ERASED_ROWS = 5_000;

/** Erases the rows of deleted conversations, in batches that each commit, so that nobody waits for them. */
export function createErasures({ database }: { database: Database }) {
  return {
    /** For the job runner: erases all there is; what is interrupted is resumed by the next run, on any instance. */
    async run(signal: AbortSignal): Promise<void> {
      while (!signal.aborted && (await eraseDeleted(database, ERASED_ROWS)));
    },
  };
}

export type Erasures = ReturnType<typeof createErasures>;
