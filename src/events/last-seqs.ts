import type { Sql } from "../db/client.ts";

const listLastSeqs = (sql: Sql, ids: string[]) => sql<{ id: string; last_seq: number }[]>`
  select c.id, c.last_seq from conversations c where c.id = any (${ids}::uuid[])`;

/** Conversations per statement. */
const IDS_MAX = 2_000;

type Waiting = { resolve(seq: number): void; reject(error: unknown): void };

/**
 * Finds the number of a conversation's newest event; 0 when it is gone. Concurrent lookups share a statement: after a gap,
 * every room of an instance looks it up.
 */
export function createFindLastSeq(sql: Sql): (conversationId: string) => Promise<number> {
  const waiting = new Map<string, Waiting[]>();
  let isScheduled = false;

  async function readAll(): Promise<void> {
    isScheduled = false;
    const batch = [...waiting];
    waiting.clear();
    for (let from = 0; from < batch.length; from += IDS_MAX) await readBatch(batch.slice(from, from + IDS_MAX));
  }

  async function readBatch(batch: [string, Waiting[]][]): Promise<void> {
    try {
      const ids = batch.map(([id]) => id);
      const rows = await listLastSeqs(sql, ids);
      const seqs = new Map(rows.map(({ id, last_seq }) => [id, last_seq]));
      for (const [id, callers] of batch) for (const { resolve } of callers) resolve(seqs.get(id) ?? 0);
    } catch (error) {
      for (const [, callers] of batch) for (const { reject } of callers) reject(error);
    }
  }

  return (conversationId) => {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    waiting.set(conversationId, [...(waiting.get(conversationId) ?? []), { resolve, reject }]);
    if (!isScheduled) setTimeout(readAll, 0);
    isScheduled = true;
    return promise;
  };
}
