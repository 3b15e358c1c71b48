import { createCommitAttempts } from "./commit-attempts.ts";
import {
  type CommitOutcome,
  createLaneFullProblem,
  createLaneId,
  createOverloadedProblem,
  type Entry,
  ITEM_LOCKED,
  LANE_BYTES_MAX,
  LANE_ITEMS_MAX,
  type Lane,
  LOCKED,
  WAITING_BYTES_MAX,
  WAITING_ITEMS_MAX,
} from "./commit-entries.ts";
import { createCommitLanes } from "./commit-lanes.ts";
import { createCommitQueue } from "./commit-queue.ts";
import { isLockConflict, isServerFailure, isStatementTimeout } from "./errors.ts";
import { retryCollisions } from "./retry-collisions.ts";

export { LANES_WAITING_MAX } from "./commit-attempts.ts";
export * from "./commit-entries.ts";
export { createCommitPools } from "./commit-pools.ts";

/** The maximum time that an item waits for its commit. */
export const LANE_TIMEOUT_MS = 12_000;
const EXPIRY_CHECK_MS = 250;

/**
 * Writes items in batches: items that arrive during a commit are written together by the next commit. A single item is written immediately.
 * Under load, hundreds of items share the cost of a transaction. A locked item never delays other items. It moves from the batch to a lane
 * (commit-lanes.ts), which is a waiting list for its conversation or its sender. Later items of that conversation or sender join the lane,
 * which keeps each sender's items in order. A lane is soon retried in one of the next batches (commit-attempts.ts). If its conversation
 * stays locked, the lane waits for the lock on a lane connection, once and for a limited time. That way, two instances can alternate in a
 * busy conversation.
 */
export interface GroupCommit<Item, Result> {
  /**
   * Adds an item, and resolves when it is committed. A conversation's items are committed in the order of these calls.
   * @throws Problem `overloaded` if too many items are waiting or this item timed out. Also throws the commit's errors.
   */
  submit(item: Item): Promise<Result>;
  /** Returns the number of items that wait for a commit. */
  countWaiting(): number;
}

export type GroupCommitOptions<Item, Result> = {
  /** Returns an item's key, which is usually the id of its conversation. */
  getKey(item: Item): string;
  /** Returns an item's sender. A sender's items keep their order within a conversation. */
  getSender(item: Item): string;
  getBytes(item: Item): number;
  /**
   * Writes a batch in one transaction, and returns the outcome of each item, in order. Never waits for locks: the outcome of a
   * locked item, and of its sender's later items in the same conversation, is `LOCKED` or `ITEM_LOCKED`.
   */
  commit(items: Item[]): Promise<CommitOutcome<Result>[]>;
  /**
   * Writes one conversation's items on a lane connection. Unlike `commit`, it waits for the conversation's lock for a limited time.
   * It doesn't wait for other locks.
   */
  waitAndCommit(items: Item[]): Promise<CommitOutcome<Result>[]>;
  laneTimeoutMs?: number;
};

export function createGroupCommit<Item, Result>(options: GroupCommitOptions<Item, Result>): GroupCommit<Item, Result> {
  const { getKey, getSender, getBytes, commit, waitAndCommit, laneTimeoutMs = LANE_TIMEOUT_MS } = options;
  type AnyEntry = Entry<Item, Result>;
  const queue = createCommitQueue<AnyEntry>(write);
  const lanes = createCommitLanes<Item, Result>(queue, reject);
  const attempts = createCommitAttempts<Item, Result>({
    queue,
    lanes,
    waitAndCommit,
    settleBatch,
    fail,
  });
  /** The number of items that have no result yet. */
  let waitingCount = 0;
  let waitingBytes = 0;
  let expiryTimer: ReturnType<typeof setInterval> | undefined;

  async function write(batch: AnyEntry[]): Promise<void> {
    try {
      const results = await retryCollisions(() => commit(batch.map(({ item }) => item)));
      settleBatch(batch, results);
    } catch (error) {
      const [first] = batch;
      if (batch.length > 1 && !isServerFailure(error)) {
        // One item may have caused the error, so the two halves are written separately. The second half returns to the front of the queue.
        queue.unshift(...batch.splice(batch.length >> 1));
        await write(batch);
      } else if (first && isLockConflict(error)) {
        // The item waited for an unexpected lock, such as the lock on a user that a message refers to.
        const lane = lanes.findOrOpenForSender(first);
        lane.isUnbatched = true;
        lanes.putBack(new Map([[lane, [first]]]));
      } else fail(batch, error);
    }
    attempts.finishAttempts();
  }

  /** Settles a batch's items with their results, and moves locked items to their lanes. */
  function settleBatch(batch: AnyEntry[], results: CommitOutcome<Result>[]): void {
    const locked = new Map<Lane<Item, Result>, AnyEntry[]>();
    for (const [index, entry] of batch.entries()) {
      const result = results[index] as CommitOutcome<Result>;
      if (result !== LOCKED && result !== ITEM_LOCKED) {
        settle(entry);
        entry.resolve(result);
        continue;
      }
      const lane = result === LOCKED ? lanes.findOrOpen(entry) : lanes.findOrOpenForSender(entry);
      const laneEntries = locked.get(lane);
      if (laneEntries) laneEntries.push(entry);
      else locked.set(lane, [entry]);
    }
    if (locked.size > 0) lanes.putBack(locked);
  }

  /** Rejects items. After a temporary failure, their senders' later items are rejected too, so that a retry keeps the order. */
  function fail(entries: AnyEntry[], error: unknown): void {
    for (const entry of entries) reject(entry, error);
    if (isServerFailure(error) || isStatementTimeout(error) || isLockConflict(error))
      rejectLaterItems(new Set(entries.map(({ key, sender }) => createLaneId(key, sender))), error);
  }

  function rejectLaterItems(senders: Set<string>, error: unknown): void {
    const isLater = ({ key, sender }: AnyEntry) => senders.has(createLaneId(key, sender));
    const laterEntries = queue.extract(isLater);
    for (const lane of lanes.list()) laterEntries.push(...lanes.extract(lane, isLater));
    for (const entry of laterEntries) reject(entry, error);
  }

  /** Rejects items that timed out, and their senders' later items. */
  function failExpired(): void {
    const oldestMs = performance.now() - laneTimeoutMs;
    const expiredSenders = new Set<string>();
    for (const entries of [queue.list(), ...[...lanes.list()].map((lane) => lane.entries)])
      for (const { submittedAtMs, key, sender } of entries)
        if (submittedAtMs <= oldestMs) expiredSenders.add(createLaneId(key, sender));
    if (expiredSenders.size === 0) return;
    rejectLaterItems(
      expiredSenders,
      createOverloadedProblem("The database did not store the message in time. Try again."),
    );
    attempts.finishAttempts();
  }

  function reject(entry: AnyEntry, error: unknown): void {
    settle(entry);
    entry.reject(error);
  }

  function settle(entry: AnyEntry): void {
    lanes.removeFromAttempt(entry);
    waitingCount -= 1;
    waitingBytes -= entry.bytes;
    if (waitingCount > 0) return;
    clearInterval(expiryTimer);
    expiryTimer = undefined;
  }

  return {
    submit(item) {
      return new Promise((resolve, reject) => {
        const [key, sender, bytes] = [getKey(item), getSender(item), getBytes(item)];
        if (waitingCount >= WAITING_ITEMS_MAX || waitingBytes >= WAITING_BYTES_MAX)
          return reject(createOverloadedProblem("Too many messages are waiting to be stored."));
        const lane = lanes.find(key, sender);
        if (lane && (lane.entries.length >= LANE_ITEMS_MAX || lane.bytes >= LANE_BYTES_MAX))
          return reject(createLaneFullProblem());
        const entry: AnyEntry = {
          item,
          key,
          sender,
          bytes,
          submittedAtMs: performance.now(),
          lane: null,
          resolve,
          reject,
        };
        waitingCount += 1;
        waitingBytes += bytes;
        expiryTimer ??= setInterval(failExpired, Math.min(EXPIRY_CHECK_MS, laneTimeoutMs / 10));
        if (lane) return lanes.addTo(lane, [entry]);
        queue.push(entry);
        queue.start();
      });
    },

    countWaiting: () => waitingCount,
  };
}
