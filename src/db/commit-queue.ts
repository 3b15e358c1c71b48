import { extractBatch } from "./commit-entries.ts";

/** The entries for the next batches, in order. */
export interface CommitQueue<E> {
  readonly length: number;
  push(...entries: E[]): void;
  /** Adds entries at the front. */
  unshift(...entries: E[]): void;
  /** Removes and returns the matching entries. The remaining entries keep their order. */
  extract(shouldExtract: (entry: E) => boolean): E[];
  /** Returns all entries, read-only. */
  list(): readonly E[];
  /** Writes batches until the queue is empty, unless that is already in progress. */
  start(): void;
}

/**
 * Creates a queue that is written in batches, one at a time. Entries that arrive during a write form the next batch.
 * @param write writes one batch, and never rejects.
 */
export function createCommitQueue<E extends { bytes: number }>(write: (batch: E[]) => Promise<void>): CommitQueue<E> {
  let queue: E[] = [];
  let isRunning = false;

  async function run(): Promise<void> {
    while (queue.length > 0) await write(extractBatch(queue));
    isRunning = false;
  }

  return {
    get length() {
      return queue.length;
    },
    push: (...entries) => void queue.push(...entries),
    unshift: (...entries) => void queue.unshift(...entries),
    list: () => queue,

    extract(shouldExtract) {
      if (queue.length === 0) return [];
      const extracted = queue.filter(shouldExtract);
      if (extracted.length > 0) queue = queue.filter((entry) => !shouldExtract(entry));
      return extracted;
    },

    start() {
      if (isRunning || queue.length === 0) return;
      isRunning = true;
      // Runs at the end of the event loop turn, so that all frames that arrived in it form one batch. A microtask would run after
      // the first frame.
      setImmediate(run);
    },
  };
}
