import { BATCH_ITEMS_MAX, type CommitOutcome, type Entry, type Lane } from "./commit-entries.ts";
import { type CommitLanes, PAUSE_MIN_MS } from "./commit-lanes.ts";
import type { CommitQueue } from "./commit-queue.ts";
import { isLockConflict, isServerFailure } from "./errors.ts";

/** The maximum number of lanes (commit-entries.ts) that wait in the database for a lock. Each needs its own connection. */
export const LANES_WAITING_MAX = 3;

const PAUSE_MAX_MS = 25;
/** A lane that has been locked for this long waits in the database, because polling would take longer. */
const WAIT_AFTER_MS = 30;
/**
 * A lane with this many items waits in the database immediately, because they are worth a separate commit. This happens if two
 * instances write to a busy conversation.
 */
const WAIT_ITEMS_MIN = 16;
/** A lane that has been locked for this long is attempted less often, and only with its first item. */
const SLOW_AFTER_MS = 1_000;
const SLOW_PAUSE_MS = 100;
/** The maximum number of attempts per second for all slow lanes together. */
const SLOW_ATTEMPTS_PER_S = 1_000;
/**
 * The retry delay of an item whose commit waits for a lock other than its conversation's. While the commit waits, the conversation
 * stays locked.
 */
const UNBATCHED_PAUSE_MS = 500;

/** Schedules the lanes' attempts, either as part of the next batch or on a connection that waits for the lock. */
export interface CommitAttempts {
  /** Pauses lanes that are still locked after their attempt, and closes the others. */
  finishAttempts(): void;
}

type Dependencies<Item, Result> = {
  queue: CommitQueue<Entry<Item, Result>>;
  lanes: CommitLanes<Item, Result>;
  /** Commits items of one conversation on a lane connection, waiting for the conversation's lock. */
  waitAndCommit(items: Item[]): Promise<CommitOutcome<Result>[]>;
  /** Settles a batch's items with their results, and moves locked items to their lanes. */
  settleBatch(batch: Entry<Item, Result>[], results: CommitOutcome<Result>[]): void;
  fail(batch: Entry<Item, Result>[], error: unknown): void;
};

export function createCommitAttempts<Item, Result>(deps: Dependencies<Item, Result>): CommitAttempts {
  const { queue, lanes, waitAndCommit, settleBatch, fail } = deps;
  type AnyLane = Lane<Item, Result>;
  /** Lanes that wait for a free connection. */
  const awaitingConnection: AnyLane[] = [];
  let freeConnections = LANES_WAITING_MAX;

  const isSlow = (lane: AnyLane): boolean => performance.now() - lane.openedAtMs >= SLOW_AFTER_MS;
  const shouldWait = ({ hasWaited, entries, openedAtMs }: AnyLane): boolean =>
    hasWaited || entries.length >= WAIT_ITEMS_MIN || performance.now() - openedAtMs >= WAIT_AFTER_MS;

  function finishAttempts(): void {
    for (const lane of lanes.attempting) {
      if (lane.inFlightCount > 0) continue;
      lanes.attempting.delete(lane);
      if (lane.isLocked) pause(lane);
      else close(lane);
    }
  }

  function pause(lane: AnyLane): void {
    if (lane.entries.length === 0) {
      close(lane);
      return;
    }
    lane.state = "paused";
    if (lane.isUnbatched) lane.pauseMs = UNBATCHED_PAUSE_MS;
    else if (isSlow(lane)) lane.pauseMs = Math.max(SLOW_PAUSE_MS, (lanes.size * 1_000) / SLOW_ATTEMPTS_PER_S);
    lane.timer = setTimeout(attempt, lane.pauseMs, lane);
    lane.pauseMs = Math.min(lane.pauseMs * 2, PAUSE_MAX_MS);
    if (lane.canWaitInDatabase && shouldWait(lane)) queueForConnection(lane);
  }

  /** Adds the lane's items to the next batch. If the lane has been locked for a long time, adds only the first item. */
  function attempt(lane: AnyLane): void {
    if (lane.isUnbatched) {
      queueForConnection(lane);
      return;
    }
    const entries = lanes.extractBatch(lane, isSlow(lane) ? 1 : BATCH_ITEMS_MAX);
    lane.state = "attempting";
    lane.isLocked = false;
    lane.inFlightCount = entries.length;
    lanes.attempting.add(lane);
    for (const entry of entries) entry.lane = lane;
    queue.unshift(...entries);
    if (entries.length === 0) finishAttempts();
    else queue.start();
  }

  function queueForConnection(lane: AnyLane): void {
    if (!lane.isAwaitingConnection) awaitingConnection.push(lane);
    lane.isAwaitingConnection = true;
    assignConnections();
  }

  function assignConnections(): void {
    while (freeConnections > 0) {
      const lane = awaitingConnection.shift();
      if (!lane) return;
      lane.isAwaitingConnection = false;
      // A lane that is being attempted is queued again if it is still locked.
      if (lanes.findById(lane.id) !== lane || lane.state !== "paused") continue;
      if (lane.entries.length > 0) void waitForLock(lane);
      else close(lane);
    }
  }

  /** Waits in the database for the conversation's lock, and then writes the lane's items. */
  async function waitForLock(lane: AnyLane): Promise<void> {
    clearTimeout(lane.timer);
    lane.state = "waiting";
    lane.hasWaited = true;
    freeConnections -= 1;
    const batch = lanes.extractBatch(lane, lane.isUnbatched ? 1 : BATCH_ITEMS_MAX);
    await commitBatch(lane, batch);
    freeConnections += 1;
    // Settling the batch may have opened lanes for single senders.
    finishAttempts();
    // Other lanes that are waiting for a connection come first.
    pause(lane);
    assignConnections();
  }

  async function commitBatch(lane: AnyLane, batch: Entry<Item, Result>[]): Promise<void> {
    try {
      const results = await waitAndCommit(batch.map(({ item }) => item));
      settleBatch(batch, results);
      lane.openedAtMs = performance.now();
      lane.pauseMs = PAUSE_MIN_MS;
      lane.isUnbatched = false;
    } catch (error) {
      if (isLockConflict(error)) {
        // The lock is held for a long time, so from now on the lane is attempted only as part of batches.
        lane.canWaitInDatabase = false;
        lanes.putBack(new Map([[lane, batch]]));
      } else if (batch.length > 1 && !isServerFailure(error)) {
        // Puts the second half back first, so that the order stays the same if the first half has to wait again.
        lanes.putBack(new Map([[lane, batch.splice(batch.length >> 1)]]));
        await commitBatch(lane, batch);
      } else fail(batch, error);
    }
  }

  /** Closes a lane. Its remaining items move to the conversation's lane, or to the end of the queue. */
  function close(lane: AnyLane): void {
    clearTimeout(lane.timer);
    lanes.remove(lane);
    const [first] = lane.entries;
    if (!first) return;
    const conversationLane = lanes.findById(first.key);
    if (conversationLane) lanes.addTo(conversationLane, lane.entries);
    else queue.push(...lane.entries);
    lane.entries = [];
    queue.start();
  }

  return { finishAttempts };
}
