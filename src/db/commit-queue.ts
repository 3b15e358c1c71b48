import { takeBatch } from "./commit-entries.ts";

/** What goes with the next batches, in order. */
export interface CommitQueue<E> {
  readonly length: number;
  push(...entries: E[]): void;
  /** In front of all others. */
  unshift(...entries: E[]): void;
  /** Takes entries out, in their order. */
  extract(isExtracted: (entry: E) => boolean): E[];
  /** All of them, to look at. */
  list(): readonly E[];
  /** Writes batches until nothing is left, if that is not being done. */
  start(): void;
}

/** @param write writes one batch; it never rejects. There is one at a time, so what comes meanwhile goes together. */
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
      // At the end of this turn, so that all frames that came in with it go together: a microtask would run after the first
      // of them.
      setImmediate(run);
    },
  };
}
