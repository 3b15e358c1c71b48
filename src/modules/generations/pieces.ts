import type { Database, Sql } from "../../db/client.ts";
import { isTemporary } from "../../db/retry.ts";
import type { LiveAnswer, LivePiece } from "./live-answer.ts";
import { type ClaimedGeneration, storePieces } from "./queries.ts";
import type { RunningAnswer } from "./running-answer.ts";

type StorableAnswer = Pick<RunningAnswer, "generation" | "live">;

/**
 * Stores the text of answers in progress as appended pieces (docs/decisions/0047), so that a successor can continue from
 * there. One write per answer at a time, since each piece follows the one before.
 */
export function createPieces({ database }: { database: Database }) {
  const storing = new Map<LiveAnswer, Promise<void>>();

  async function withLock<T>(answers: readonly StorableAnswer[], work: () => Promise<T>): Promise<T> {
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const { live } of answers) storing.set(live, promise);
    try {
      return await work();
    } finally {
      for (const { live } of answers) storing.delete(live);
      resolve();
    }
  }

  async function write(changed: (StorableAnswer & { piece: LivePiece })[]): Promise<void> {
    try {
      const pieces = changed.map(({ generation, piece }) => ({ ...keyOf(generation), ...piece }));
      const held = await storePieces(database, pieces, { waits: false });
      for (const { generation, live, piece } of changed) if (held.has(generation.id)) live.confirm(piece);
    } catch (error) {
      if (changed.length < 2 || isTemporary(error)) throw error;
      // One piece may be at fault; the others should not fail with it.
      const half = changed.length >> 1;
      const results = await Promise.allSettled([write(changed.slice(0, half)), write(changed.slice(half))]);
      if (results.every(({ status }) => status === "rejected")) throw error;
    }
  }

  return {
    /**
     * Appends the new text of these answers. An answer whose last piece is still in flight is skipped until the next call.
     * @throws database errors, unless they affect only some of several answers: those are skipped.
     */
    async append(answers: Iterable<StorableAnswer>): Promise<void> {
      const changed = [...answers].flatMap((answer) => {
        const piece = storing.has(answer.live) ? null : answer.live.nextPiece();
        return piece ? [{ ...answer, piece }] : [];
      });
      if (changed.length === 0) return;
      await withLock(changed, () => write(changed));
    },

    /**
     * Stores the current text of one answer, even if empty, in the caller's transaction.
     * @param work calls `write` once; if that returns false, the lease is lost and nothing may be written any more.
     */
    async store<T>(answer: StorableAnswer, work: (write: (sql: Sql) => Promise<boolean>) => Promise<T>): Promise<T> {
      const { generation, live } = answer;
      while (storing.has(live)) await storing.get(live);
      return withLock([answer], async () => {
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

/** The key of a claimed generation, as its owner uses it. */
export const keyOf = ({ conversation_id: conversationId, id, fence }: ClaimedGeneration) => ({
  conversationId,
  id,
  fence,
});
