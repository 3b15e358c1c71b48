import type { Database } from "../../db/client.ts";
import * as queries from "./activity-queries.ts";

/** The number of moves read per query. */
const MOVES_PER_QUERY = 100;
const FIRST_ID = "00000000-0000-0000-0000-000000000000";

/**
 * Creates the job that moves conversations with many members to the top of the members' lists (docs/decisions/0063), in separately
 * committed batches.
 */
export function createActivity({ database }: { database: Database }) {
  async function move(pendingMove: queries.Move, signal: AbortSignal): Promise<void> {
    let last: string | undefined = FIRST_ID;
    while (last !== undefined && !signal.aborted) last = await queries.moveBatch(database, pendingMove, last);
    if (last === undefined) await queries.deleteMove(database, pendingMove);
  }

  return {
    isDue: (): Promise<boolean> => queries.hasMoves(database),

    /** Applies all pending moves, as a job. If it is interrupted, the next run on any instance continues. */
    async run(signal: AbortSignal): Promise<void> {
      let after: string | undefined = FIRST_ID;
      while (after !== undefined && !signal.aborted) {
        const moves: queries.Move[] = await queries.listMoves(database, after, MOVES_PER_QUERY);
        for (const pending of moves) await move(pending, signal);
        after = moves.at(-1)?.conversation_id;
      }
    },
  };
}

export type Activity = ReturnType<typeof createActivity>;
