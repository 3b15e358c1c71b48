import type { Database, Sql } from "../../db/client.ts";
import { isTemporary } from "../../db/retry.ts";
import type { LiveAnswer, LivePiece } from "./live-answer.ts";
import { type ClaimedGeneration, storePieces } from "./queries.ts";
import type { RunningAnswer } from "./running-answer.ts";

type Unstored = Pick<RunningAnswer, "generation" | "live">;

/**
 * Stores the text so far of answers in progress, in appended pieces (docs/decisions/0047), so that a successor can continue
 * from there. One store per answer at a time, since a piece follows the one before it.
 */
export function createPieces({ database }: { database: Database }) {
  const storing = new Map<LiveAnswer, Promise<void>>();

  async function hold<T>(answers: readonly Unstored[], work: () => Promise<T>): Promise<T> {
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const { live } of answers) storing.set(live, promise);
    try {
      return await work();
    } finally {
      for (const { live } of answers) storing.delete(live);
      resolve();
    }
  }

  async function write(changed: (Unstored & { piece: LivePiece })[]): Promise<void> {
    try {
      const pieces = changed.map(({ generation, piece }) => ({ ...keyOf(generation), ...piece }));
      const held = await storePieces(database, pieces, { waits: false });
      for (const { generation, live, piece } of changed) if (held.has(generation.id)) live.confirm(piece);
    } catch (error) {
      if (changed.length < 2 || isTemporary(error)) throw error;
      // One of them may be at fault, and the others are not to suffer from it.
      const half = changed.length >> 1;
      const results = await Promise.allSettled([write(changed.slice(0, half)), write(changed.slice(half))]);
      if (results.every(({ status }) => status === "rejected")) throw error;
    }
  }

  return {
    /**
     * Appends what is new of these answers. One whose last piece is still on its way is left out until the next time.
     * @throws what the database says, unless it only refuses some of several: those are left out.
     */
    async append(answers: Iterable<Unstored>): Promise<void> {
      const changed = [...answers].flatMap((answer) => {
        const piece = storing.has(answer.live) ? null : answer.live.nextPiece();
        return piece ? [{ ...answer, piece }] : [];
      });
      if (changed.length === 0) return;
      await hold(changed, () => write(changed));
    },

    /**
     * Stores the text so far of one answer, also if it is empty, in a transaction of the caller.
     * @param work calls `write` once; it gives false when the lease is lost, and then nothing may be written any more.
     */
    async store<T>(answer: Unstored, work: (write: (sql: Sql) => Promise<boolean>) => Promise<T>): Promise<T> {
      const { generation, live } = answer;
      while (storing.has(live)) await storing.get(live);
      return hold([answer], async () => {
        const piece = live.nextPiece() ?? live.emptyPiece();
        let isHeld = false;
        const result = await work(async (sql) => {
          isHeld = (await storePieces(sql, [{ ...keyOf(generation), ...piece }])).size > 0;
          return isHeld;
        });
        if (isHeld) live.confirm(piece);
        return result;
      });
    },
  };
}

export type Pieces = ReturnType<typeof createPieces>;

/** A claimed generation, as its owner names it. */
export const keyOf = ({ conversation_id: conversationId, id, fence }: ClaimedGeneration) => ({
  conversationId,
  id,
  fence,
});
