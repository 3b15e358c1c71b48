import { createSidePool, type Database } from "./client.ts";
import { LANES_WAITING_MAX } from "./commit-attempts.ts";

/** The timeout of a batch. A batch that takes longer is cancelled, and its halves are written separately. */
const BATCH_TIMEOUT_MS = 4_000;

export interface CommitPools {
  openBatchPool(): Database;
  openLanePool(): Database;
  close(): Promise<void>;
}

/**
 * Creates the pools for commits. The batch pool has one connection, which stays open. The lane pool has a connection for each lane
 * that waits in the database.
 */
export function createCommitPools(database: Database): CommitPools {
  const statementTimeoutMs = BATCH_TIMEOUT_MS;
  const batches = createSidePool(database, 1, { statementTimeoutMs, idleTimeoutS: 0 });
  const lanes = createSidePool(database, LANES_WAITING_MAX, { statementTimeoutMs });
  return {
    openBatchPool: batches.open,
    openLanePool: lanes.open,
    async close() {
      await Promise.all([batches.close(), lanes.close()]);
    },
  };
}
