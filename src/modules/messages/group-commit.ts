import { isRowFault } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";

/** Items of one commit: past some hundreds a larger batch only makes the first of it wait longer. */
export const BATCH_ITEMS_MAX = 500;
/** Items that may wait; beyond it the database is too slow for what comes in. */
export const QUEUE_ITEMS_MAX = 20_000;
const OVERLOAD_RETRY_AFTER_MS = 1_000;

type Waiting<Item, Result> = { item: Item; resolve(result: Result): void; reject(error: unknown): void };

/**
 * Group commit: what arrives while a commit is in flight is written together by the next one. A lone item is written
 * at once; under load the cost of a transaction is shared by hundreds of items.
 * @param commit writes a batch in one transaction and returns a result for each item, in order.
 */
export function createGroupCommit<Item, Result>(commit: (items: Item[]) => Promise<Result[]>) {
  const queue: Waiting<Item, Result>[] = [];
  let isRunning = false;

  async function run(): Promise<void> {
    isRunning = true;
    while (queue.length > 0) await write(queue.splice(0, BATCH_ITEMS_MAX));
    isRunning = false;
  }

  async function write(batch: Waiting<Item, Result>[]): Promise<void> {
    try {
      const results = await commit(batch.map(({ item }) => item));
      for (const [index, { resolve }] of batch.entries()) resolve(results[index] as Result);
    } catch (error) {
      // Whose fault it was is not known: alone, each item gets its own answer, and the good ones are written.
      if (batch.length > 1 && isRowFault(error)) for (const waiting of batch) await write([waiting]);
      else for (const { reject } of batch) reject(error);
    }
  }

  return {
    /**
     * Fulfils once the item is committed. Items are numbered in the order of these calls.
     * @throws Problem `unavailable` when too many wait; whatever `commit` throws.
     */
    submit(item: Item): Promise<Result> {
      if (queue.length >= QUEUE_ITEMS_MAX)
        throw new Problem("unavailable", "Too many messages are waiting to be stored.", {
          retryAfterMs: OVERLOAD_RETRY_AFTER_MS,
        });
      return new Promise((resolve, reject) => {
        queue.push({ item, resolve, reject });
        // At the end of this turn, so that all frames that came in with it go together: a microtask would run after the
        // first of them.
        if (!isRunning) {
          isRunning = true;
          setImmediate(run);
        }
      });
    },

    /** Items that wait for a commit. */
    waiting: (): number => queue.length,
  };
}
