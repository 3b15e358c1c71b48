import { createCommitAttempts } from "./commit-attempts.ts";
import {
  type CommitOutcome,
  createLaneFull,
  createOverloaded,
  type Entry,
  ITEM_LOCKED,
  LANE_BYTES_MAX,
  LANE_ITEMS_MAX,
  type Lane,
  LOCKED,
  laneIdOf,
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

/** Timeout of an item. */
export const LANE_TIMEOUT_MS = 12_000;
const EXPIRY_CHECK_MS = 250;

/**
 * Group commit: items that arrive during a commit are written together by the next one. A single item is written
 * immediately; under load, hundreds of items share the cost of a transaction.
 *
 * A locked item never delays the others: it leaves the batch for a lane (commit-lanes.ts). Later items of the same
 * conversation or sender join the lane, so the order of a sender's items is kept. A lane is retried with one of the next
 * batches (commit-attempts.ts), soon at first. If its conversation stays locked, it waits for the lock on a lane connection,
 * once and for a limited time, so that two instances take turns in a busy conversation.
 */
export interface GroupCommit<Item, Result> {
  /**
   * Fulfills once the item is committed. Items of one conversation are numbered in the order of these calls.
   * @throws Problem `overloaded` when too many wait, or the item timed out; whatever a commit throws.
   */
  submit(item: Item): Promise<Result>;
  /** Items waiting for a commit. */
  waiting(): number;
}

export type GroupCommitOptions<Item, Result> = {
  /** The conversation of an item. */
  keyOf(item: Item): string;
  /** The sender of an item, whose items keep their order within a conversation. */
  senderOf(item: Item): string;
  bytesOf(item: Item): number;
  /**
   * Writes a batch in one transaction, and returns a result for each item, in order. Never waits for locks: an item that
   * needs one gets `LOCKED` or `ITEM_LOCKED`, and so do later items of its sender in the same conversation.
   */
  commit(items: Item[]): Promise<CommitOutcome<Result>[]>;
  /**
   * Like `commit` for items of one conversation, on a lane connection. Waits a limited time for the lock of the
   * conversation, and for no other lock.
   */
  commitWaiting(items: Item[]): Promise<CommitOutcome<Result>[]>;
  laneTimeoutMs?: number;
};

export function createGroupCommit<Item, Result>(options: GroupCommitOptions<Item, Result>): GroupCommit<Item, Result> {
  const { keyOf, senderOf, bytesOf, commit, commitWaiting, laneTimeoutMs = LANE_TIMEOUT_MS } = options;
  type AnEntry = Entry<Item, Result>;
  const queue = createCommitQueue<AnEntry>(write);
  const lanes = createCommitLanes<Item, Result>(queue, refuse);
  const attempts = createCommitAttempts<Item, Result>({ queue, lanes, commitWaiting, settleBatch: settleBatch, fail });
  /** Everything that has no result yet. */
  let waitingCount = 0;
  let waitingBytes = 0;
  let expiry: ReturnType<typeof setInterval> | undefined;

  async function write(batch: AnEntry[]): Promise<void> {
    try {
      const results = await retryCollisions(() => commit(batch.map(({ item }) => item)));
      settleBatch(batch, results);
    } catch (error) {
      const [first] = batch;
      if (batch.length > 1 && !isServerFailure(error)) {
        // A single item may be the cause. The second half goes back to the front of the queue.
        queue.unshift(...batch.splice(batch.length >> 1));
        await write(batch);
      } else if (first && isLockConflict(error)) {
        // A lock that can't be known beforehand, such as on the user that a message refers to.
        const lane = lanes.findOrOpenForSender(first);
        lane.isUnbatched = true;
        lanes.putBack(new Map([[lane, [first]]]));
      } else fail(batch, error);
    }
    attempts.end();
  }

  /** Resolves the items with their results, and moves locked ones to their lane. */
  function settleBatch(batch: AnEntry[], results: CommitOutcome<Result>[]): void {
    const locked = new Map<Lane<Item, Result>, AnEntry[]>();
    for (const [index, entry] of batch.entries()) {
      const result = results[index] as CommitOutcome<Result>;
      if (result !== LOCKED && result !== ITEM_LOCKED) {
        settle(entry);
        entry.resolve(result);
        continue;
      }
      const lane = result === LOCKED ? lanes.findOrOpen(entry) : lanes.findOrOpenForSender(entry);
      const ofLane = locked.get(lane);
      if (ofLane) ofLane.push(entry);
      else locked.set(lane, [entry]);
    }
    if (locked.size > 0) lanes.putBack(locked);
  }

  /** Temporary failures may succeed later, so later items of the same senders fail too: the order is kept. */
  function fail(entries: AnEntry[], error: unknown): void {
    for (const entry of entries) refuse(entry, error);
    if (isServerFailure(error) || isStatementTimeout(error) || isLockConflict(error))
      refuseLater(new Set(entries.map(({ key, sender }) => laneIdOf(key, sender))), error);
  }

  function refuseLater(senders: Set<string>, error: unknown): void {
    const isLater = ({ key, sender }: AnEntry) => senders.has(laneIdOf(key, sender));
    const later = queue.extract(isLater);
    for (const lane of lanes.list()) later.push(...lanes.extract(lane, isLater));
    for (const entry of later) refuse(entry, error);
  }

  /** Fails items that timed out, and later items of the same senders. */
  function expire(): void {
    const oldestMs = performance.now() - laneTimeoutMs;
    const expiredSenders = new Set<string>();
    for (const entries of [queue.list(), ...[...lanes.list()].map((lane) => lane.entries)])
      for (const { sinceMs, key, sender } of entries)
        if (sinceMs <= oldestMs) expiredSenders.add(laneIdOf(key, sender));
    if (expiredSenders.size === 0) return;
    refuseLater(expiredSenders, createOverloaded("The database did not store it in time. Try again."));
    attempts.end();
  }

  function refuse(entry: AnEntry, error: unknown): void {
    settle(entry);
    entry.reject(error);
  }

  /** Settles an item. */
  function settle(entry: AnEntry): void {
    lanes.leaveAttempt(entry);
    waitingCount -= 1;
    waitingBytes -= entry.bytes;
    if (waitingCount > 0) return;
    clearInterval(expiry);
    expiry = undefined;
  }

  return {
    submit(item) {
      return new Promise((resolve, reject) => {
        const [key, sender, bytes] = [keyOf(item), senderOf(item), bytesOf(item)];
        if (waitingCount >= WAITING_ITEMS_MAX || waitingBytes >= WAITING_BYTES_MAX)
          return reject(createOverloaded("Too many messages are waiting to be stored."));
        const lane = lanes.find(key, sender);
        if (lane && (lane.entries.length >= LANE_ITEMS_MAX || lane.bytes >= LANE_BYTES_MAX))
          return reject(createLaneFull());
        const entry: AnEntry = { item, key, sender, bytes, sinceMs: performance.now(), lane: null, resolve, reject };
        waitingCount += 1;
        waitingBytes += bytes;
        expiry ??= setInterval(expire, Math.min(EXPIRY_CHECK_MS, laneTimeoutMs / 10));
        if (lane) return lanes.addTo(lane, [entry]);
        queue.push(entry);
        queue.start();
      });
    },

    waiting: () => waitingCount,
  };
}
