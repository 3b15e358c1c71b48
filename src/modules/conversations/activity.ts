import type { Database } from "../../db/client.ts";
import { NIL_UUID } from "../../lib/id.ts";
import * as queries from "./activity-queries.ts";

/** The number of moves read per query. */
const MOVES_PER_QUERY = 100;

/**
 * Creates the job that moves conversations with many members to the top of the members' lists (docs/decisions/0063), in separately
 * committed batches.
 */
export function createActivityMover({ database }: { database: Database }) {
  async function applyMove(pendingMove: queries.PendingMove, signal: AbortSignal): Promise<void> {
    let lastUserId: string | undefined = NIL_UUID;
    while (lastUserId !== undefined && !signal.aborted)
      lastUserId = await queries.moveInMemberLists(database, pendingMove, lastUserId);
    if (lastUserId === undefined) await queries.deletePendingMove(database, pendingMove);
  }

  return {
    isDue: (): Promise<boolean> => queries.hasPendingMoves(database),

    /** Job: applies all pending moves. If it is interrupted, the next run on any instance continues. */
    async run(signal: AbortSignal): Promise<void> {
      let afterId: string | undefined = NIL_UUID;
      while (afterId !== undefined && !signal.aborted) {
        const moves: queries.PendingMove[] = await queries.listPendingMoves(database, afterId, MOVES_PER_QUERY);
        for (const pendingMove of moves) await applyMove(pendingMove, signal);
        afterId = moves.at(-1)?.conversation_id;
      }
    },
  };
}

export type ActivityMover = ReturnType<typeof createActivityMover>;
