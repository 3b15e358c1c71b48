import type { Sql } from "../db/client.ts";

const listLastSeqs = (sql: Sql, ids: string[]) => sql<{ id: string; last_seq: number }[]>`
  select c.id, c.last_seq from conversations c where c.id = any (${ids}::uuid[])`;

/** Maximum number of conversations per statement. */
const IDS_MAX = 2_000;

type PendingLookup = { resolve(seq: number): void; reject(error: unknown): void };

/**
 * Creates a function that returns the sequence number of a conversation's newest event, or 0 if the conversation no longer
 * exists. Concurrent lookups share a statement, because all of an instance's conversations are looked up after a gap.
 */
export function createLastSeqLookup(sql: Sql): (conversationId: string) => Promise<number> {
  const pendingLookups = new Map<string, PendingLookup[]>();
  let isScheduled = false;

  async function lookUpAll(): Promise<void> {
    isScheduled = false;
    const batch = [...pendingLookups];
    pendingLookups.clear();
    for (let from = 0; from < batch.length; from += IDS_MAX) await lookUpBatch(batch.slice(from, from + IDS_MAX));
  }

  async function lookUpBatch(batch: [string, PendingLookup[]][]): Promise<void> {
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
    pendingLookups.set(conversationId, [...(pendingLookups.get(conversationId) ?? []), { resolve, reject }]);
    if (!isScheduled) setTimeout(lookUpAll, 0);
    isScheduled = true;
    return promise;
  };
}
