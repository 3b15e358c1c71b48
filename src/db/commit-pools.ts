import { createSidePool, type Database } from "./client.ts";
import { LANES_WAITING_MAX } from "./commit-attempts.ts";

/** A batch that takes longer than this is cancelled, and its halves are written separately. */
const BATCH_TIMEOUT_MS = 4_000;

export interface CommitPools {
  openBatches(): Database;
  openLanes(): Database;
  close(): Promise<void>;
}

/**
 * Creates the connections for commits, which have a shorter statement timeout: one for batches, which stays open, and one for
 * each lane that waits in the database.
 */
export function createCommitPools(database: Database): CommitPools {
  const statementTimeoutMs = BATCH_TIMEOUT_MS;
  const batches = createSidePool(database, 1, { statementTimeoutMs, idleTimeoutS: 0 });
  const lanes = createSidePool(database, LANES_WAITING_MAX, { statementTimeoutMs });
  return {
    openBatches: batches.open,
    openLanes: lanes.open,
    async close() {
      await Promise.all([batches.close(), lanes.close()]);
    },
  };
}
