import type { Sql } from "../db/client.ts";
import type { DurableEvent } from "../protocol/events.ts";
import { type EventRange, loadEventRanges, loadEvents } from "./read.ts";

/** Maximum number of events per statement. A larger range is cut off, and the caller loads the rest. */
const EVENTS_MAX = 1_000;
/** Maximum number of ranges per statement. */
const RANGES_MAX = 50;
/** Maximum number of events in a range that is loaded together with others. Larger ranges are loaded separately. */
const BATCH_EVENTS_MAX = 20;

type PendingLoad = EventRange & { resolve(events: DurableEvent[]): void; reject(error: unknown): void };

/**
 * Creates a function that loads a range of stored events. Concurrent loads from several conversations share a statement, because
 * they are frequent if other instances announce events only by sequence number.
 */
export function createEventLoader(sql: Sql) {
  let pendingLoads: PendingLoad[] = [];

  function loadAll(): void {
    const batch = pendingLoads;
    pendingLoads = [];
    for (let from = 0; from < batch.length; from += RANGES_MAX) void loadBatch(batch.slice(from, from + RANGES_MAX));
  }

  async function loadBatch(batch: PendingLoad[]): Promise<void> {
    try {
      const [onlyLoad] = batch;
      const results =
        batch.length === 1 && onlyLoad
          ? [await loadEvents(sql, onlyLoad.conversationId, onlyLoad.afterSeq, onlyLoad.untilSeq, EVENTS_MAX)]
          : await loadEventRanges(sql, batch, BATCH_EVENTS_MAX);
      for (const [index, { resolve }] of batch.entries()) resolve(results[index] ?? []);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  return (conversationId: string, afterSeq: number, untilSeq: number): Promise<DurableEvent[]> => {
    if (untilSeq - afterSeq > BATCH_EVENTS_MAX) return loadEvents(sql, conversationId, afterSeq, untilSeq, EVENTS_MAX);
    const { promise, resolve, reject } = Promise.withResolvers<DurableEvent[]>();
    if (pendingLoads.length === 0) setImmediate(loadAll);
    pendingLoads.push({ conversationId, afterSeq, untilSeq, resolve, reject });
    return promise;
  };
}
