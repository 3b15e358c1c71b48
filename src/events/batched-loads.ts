import type { Sql } from "../db/client.ts";
import type { DurableEvent } from "../protocol/events.ts";
import { type EventRange, loadEvents, loadEventsOf } from "./read.ts";

/** Events read per attempt to fill a gap; a larger gap is filled in steps. */
const EVENTS_MAX = 1_000;
/** Ranges per statement. */
const RANGES_MAX = 50;
/** Events per range; a larger gap is read separately. */
const BATCH_EVENTS_MAX = 20;

type Waiting = EventRange & { resolve(events: DurableEvent[]): void; reject(error: unknown): void };

/**
 * Reads events known to be stored. Concurrent reads of several conversations share a statement: if instances announce events
 * by number only, that happens in every burst.
 */
export function createLoadEvents(sql: Sql) {
  let waiting: Waiting[] = [];

  function readAll(): void {
    const batch = waiting;
    waiting = [];
    for (let from = 0; from < batch.length; from += RANGES_MAX) void read(batch.slice(from, from + RANGES_MAX));
  }

  async function read(batch: Waiting[]): Promise<void> {
    try {
      const [only] = batch;
      const found =
        batch.length === 1 && only
          ? [await loadEvents(sql, only.conversationId, only.afterSeq, only.untilSeq, EVENTS_MAX)]
          : await loadEventsOf(sql, batch, BATCH_EVENTS_MAX);
      for (const [index, { resolve }] of batch.entries()) resolve(found[index] ?? []);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  return (conversationId: string, afterSeq: number, untilSeq: number): Promise<DurableEvent[]> => {
    if (untilSeq - afterSeq > BATCH_EVENTS_MAX) return loadEvents(sql, conversationId, afterSeq, untilSeq, EVENTS_MAX);
    const { promise, resolve, reject } = Promise.withResolvers<DurableEvent[]>();
    if (waiting.length === 0) setImmediate(readAll);
    waiting.push({ conversationId, afterSeq, untilSeq, resolve, reject });
    return promise;
  };
}
