import { takeBatch } from "./commit-entries.ts";

/** The items of the next batches, in order. */
export interface CommitQueue<E> {
  readonly length: number;
  push(...entries: E[]): void;
  /** Adds items before all others. */
  unshift(...entries: E[]): void;
  /** Removes entries, keeping the order of the rest. */
  extract(isExtracted: (entry: E) => boolean): E[];
  /** All of them, read-only. */
  list(): readonly E[];
  /** Starts writing batches until the queue is empty, unless already running. */
  start(): void;
}

/**
 * @param write writes one batch; it never rejects. Batches are written one at a time, so items that arrive during one are
 * batched.
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
      // Runs at the end of this event loop tick, so that all frames that arrived in it are batched: a microtask would run
      // after the first of them.
      setImmediate(run);
    },
  };
}
