import type { Database } from "../../db/client.ts";
import * as queries from "./activity-queries.ts";

/** Conversations per query. */
const MOVES = 100;
const FIRST_ID = "00000000-0000-0000-0000-000000000000";

/**
 * Moves conversations with many members in those members' lists (docs/decisions/0063), in batches that commit separately.
 */
export function createActivity({ database }: { database: Database }) {
  async function move(one: queries.Move, signal: AbortSignal): Promise<void> {
    let last: string | undefined = FIRST_ID;
    while (last !== undefined && !signal.aborted) last = await queries.moveSome(database, one, last);
    if (last === undefined) await queries.deleteMove(database, one);
  }

  return {
    isDue: (): Promise<boolean> => queries.hasMoves(database),

    /** For the job runner: applies all pending moves. If interrupted, the next run on any instance continues. */
    async run(signal: AbortSignal): Promise<void> {
      let after: string | undefined = FIRST_ID;
      while (after !== undefined && !signal.aborted) {
        const moves: queries.Move[] = await queries.listMoves(database, after, MOVES);
        for (const one of moves) await move(one, signal);
        after = moves.at(-1)?.conversation_id;
      }
    },
  };
}

export type Activity = ReturnType<typeof createActivity>;
