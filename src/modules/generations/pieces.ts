import type { Database, Sql } from "../../db/client.ts";
import { isTemporary } from "../../db/retry.ts";
import type { LiveAnswer, LivePiece } from "./live-answer.ts";
import { type ClaimedGeneration, storePieces } from "./queries.ts";
import type { RunningAnswer } from "./running-answer.ts";

type StorableAnswer = Pick<RunningAnswer, "generation" | "live">;

/**
 * Creates a store for the text of answers in progress. The text is stored in pieces (docs/decisions/0047), so that another instance can
 * continue an answer. Only one write per answer runs at a time, because each piece follows the previous one.
 */
export function createPieceStore({ database }: { database: Database }) {
  const writesInProgress = new Map<LiveAnswer, Promise<void>>();

  async function withLock<T>(answers: readonly StorableAnswer[], work: () => Promise<T>): Promise<T> {
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const { live } of answers) writesInProgress.set(live, promise);
    try {
      return await work();
    } finally {
      for (const { live } of answers) writesInProgress.delete(live);
      resolve();
    }
  }

  async function write(changedAnswers: (StorableAnswer & { piece: LivePiece })[]): Promise<void> {
    try {
      const pieces = changedAnswers.map(({ generation, piece }) => ({ ...getLeaseKey(generation), ...piece }));
      const stored = await storePieces(database, pieces, { shouldWait: false });
      for (const { generation, live, piece } of changedAnswers)
        if (stored.has(generation.id)) live.confirmStored(piece);
    } catch (error) {
      if (changedAnswers.length < 2 || isTemporary(error)) throw error;
      // One piece may have caused the error, so the two halves are stored separately.
      const half = changedAnswers.length >> 1;
      const results = await Promise.allSettled([
        write(changedAnswers.slice(0, half)),
        write(changedAnswers.slice(half)),
      ]);
      if (results.every(({ status }) => status === "rejected")) throw error;
    }
  }

  return {
    /**
     * Stores the new text of these answers. An answer whose last piece is still being written is skipped until the next call.
     * @throws database errors, unless they affect only some of the answers, which are then skipped.
     */
    async append(answers: Iterable<StorableAnswer>): Promise<void> {
      const changed = [...answers].flatMap((answer) => {
        const piece = writesInProgress.has(answer.live) ? null : answer.live.createNextPiece();
        return piece ? [{ ...answer, piece }] : [];
      });
      if (changed.length === 0) return;
      await withLock(changed, () => write(changed));
    },

    /**
     * Stores the current text of an answer in the caller's transaction, even if it is empty.
     * @param work calls `write` once. If `write` returns false, the lease is lost and this instance must stop writing.
     */
    async store<T>(answer: StorableAnswer, work: (write: (sql: Sql) => Promise<boolean>) => Promise<T>): Promise<T> {
      const { generation, live } = answer;
      while (writesInProgress.has(live)) await writesInProgress.get(live);
      return withLock([answer], async () => {
        const piece = live.createNextPiece() ?? live.createEmptyPiece();
        let isStored = false;
        const result = await work(async (sql) => {
          isStored = (await storePieces(sql, [{ ...getLeaseKey(generation), ...piece }])).size > 0;
          return isStored;
        });
        if (isStored) live.confirmStored(piece);
        return result;
      });
    },
  };
}

export type PieceStore = ReturnType<typeof createPieceStore>;

/** Returns the key that identifies a claimed generation and its owner's lease. */
export const getLeaseKey = ({ conversation_id: conversationId, id, fence }: ClaimedGeneration) => ({
  conversationId,
  id,
  fence,
});
