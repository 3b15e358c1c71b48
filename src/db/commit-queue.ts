import { takeBatch } from "./commit-entries.ts";

/** The entries for the next batches, in order. */
export interface CommitQueue<E> {
  readonly length: number;
  push(...entries: E[]): void;
  /** Adds entries before all others. */
  unshift(...entries: E[]): void;
  /** Removes and returns the matching entries. The others keep their order. */
  extract(isExtracted: (entry: E) => boolean): E[];
  /** Returns all entries, read-only. */
  list(): readonly E[];
  /** Starts writing batches until the queue is empty, unless this is already happening. */
  start(): void;
}

/**
 * @param write writes one batch, and never rejects. Batches are written one at a time, so entries that arrive during a write
 * form the next batch.
 */
export function createCommitQueue<E extends { bytes: number }>(write: (batch: E[]) => Promise<void>): CommitQueue<E> {
  let queue: E[] = [];
  let isRunning = false;

  async function run(): Promise<void> {
    while (queue.length > 0) await write(takeBatch(queue));
    isRunning = false;
  }

  return {
    get length() {
      return queue.length;
    },
    push: (...entries) => void queue.push(...entries),
    unshift: (...entries) => void queue.unshift(...entries),
    list: () => queue,

    extract(isExtracted) {
      if (queue.length === 0) return [];
      const extracted = queue.filter(isExtracted);
      if (extracted.length > 0) queue = queue.filter((entry) => !isExtracted(entry));
      return extracted;
    },

    start() {
      if (isRunning || queue.length === 0) return;
      isRunning = true;
      // Runs at the end of the current turn of the event loop, so that all frames that arrived in it are batched. A microtask
      // would run after the first of them.
      setImmediate(run);
    },
  };
}
