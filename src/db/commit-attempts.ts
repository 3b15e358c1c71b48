import { BATCH_ITEMS_MAX, type CommitOutcome, type Entry, type Lane } from "./commit-entries.ts";
import { type CommitLanes, PAUSE_MIN_MS } from "./commit-lanes.ts";
import type { CommitQueue } from "./commit-queue.ts";
import { isLockConflict, isServerFailure } from "./errors.ts";

/** Conversations whose lock is awaited in the database at the same time; each takes its own connection. */
export const LANES_WAITING_MAX = 3;

const PAUSE_MAX_MS = 25;
/** A lane locked for this long waits in the database: the lock is held more than briefly. */
const WAIT_AFTER_MS = 30;
/**
 * With this many items a separate commit is worthwhile, so the lane waits in the database immediately: two instances are
 * writing to a busy conversation.
 */
const WAIT_ITEMS_MIN = 16;
/** A lane locked for this long is attempted less often, and with its first item only. */
const SLOW_AFTER_MS = 1_000;
const SLOW_PAUSE_MS = 100;
/** Attempts a second of all slow lanes together. */
const SLOW_ATTEMPTS_PER_S = 1_000;
/** The pause of an item whose commit waits for a lock: while it waits, it holds the lock of its conversation. */
const UNBATCHED_PAUSE_MS = 500;

/** Schedules attempts of lanes: in one of the next batches, or waiting in the database. */
export interface CommitAttempts {
  /** Pauses lanes whose attempt is over and that are still locked; releases the others. */
  end(): void;
}

type Dependencies<Item, Result> = {
  queue: CommitQueue<Entry<Item, Result>>;
  lanes: CommitLanes<Item, Result>;
  /** Waits for the lock of the conversation, on a lane connection. */
  commitWaiting(items: Item[]): Promise<CommitOutcome<Result>[]>;
  /** Resolves the items with their results, and moves locked ones to their lane. */
  settleBatch(batch: Entry<Item, Result>[], results: CommitOutcome<Result>[]): void;
  fail(batch: Entry<Item, Result>[], error: unknown): void;
};

export function createCommitAttempts<Item, Result>(deps: Dependencies<Item, Result>): CommitAttempts {
  const { queue, lanes, commitWaiting, settleBatch, fail } = deps;
  type ALane = Lane<Item, Result>;
  /** Lanes that wait for a connection. */
  const awaitingConnection: ALane[] = [];
  let freeConnections = LANES_WAITING_MAX;

  const isSlow = (lane: ALane): boolean => performance.now() - lane.openedAtMs >= SLOW_AFTER_MS;
  const isDue = ({ hasWaited, entries, openedAtMs }: ALane): boolean =>
    hasWaited || entries.length >= WAIT_ITEMS_MIN || performance.now() - openedAtMs >= WAIT_AFTER_MS;

  function end(): void {
    for (const lane of lanes.attempting) {
      if (lane.inFlight > 0) continue;
      lanes.attempting.delete(lane);
      if (lane.isLocked) pause(lane);
      else close(lane);
    }
  }

  function pause(lane: ALane): void {
    if (lane.entries.length === 0) {
      close(lane);
      return;
    }
    lane.state = "paused";
    if (lane.isUnbatched) lane.pauseMs = UNBATCHED_PAUSE_MS;
    else if (isSlow(lane)) lane.pauseMs = Math.max(SLOW_PAUSE_MS, (lanes.size * 1_000) / SLOW_ATTEMPTS_PER_S);
    lane.timer = setTimeout(attempt, lane.pauseMs, lane);
    lane.pauseMs = Math.min(lane.pauseMs * 2, PAUSE_MAX_MS);
    if (lane.mayWait && isDue(lane)) queueForConnection(lane);
  }

  /** Adds its items to the next batch; only the first one if the lane has been locked for long. */
  function attempt(lane: ALane): void {
    if (lane.isUnbatched) {
      queueForConnection(lane);
      return;
    }
    const entries = lanes.takeFrom(lane, isSlow(lane) ? 1 : BATCH_ITEMS_MAX);
    lane.state = "attempting";
    lane.isLocked = false;
    lane.inFlight = entries.length;
    lanes.attempting.add(lane);
    for (const entry of entries) entry.lane = lane;
    queue.unshift(...entries);
    if (entries.length === 0) end();
    else queue.start();
  }

  function queueForConnection(lane: ALane): void {
    if (!lane.isQueued) awaitingConnection.push(lane);
    lane.isQueued = true;
    assignConnections();
  }

  function assignConnections(): void {
    while (freeConnections > 0) {
      const lane = awaitingConnection.shift();
      if (!lane) return;
      lane.isQueued = false;
      // A lane in an attempt queues again if it is still locked.
      if (lanes.findById(lane.id) !== lane || lane.state !== "paused") continue;
      if (lane.entries.length > 0) void wait(lane);
      else close(lane);
    }
  }

  /** Waits in the database for the lock of its conversation, then writes everything that waits for it. */
  async function wait(lane: ALane): Promise<void> {
    clearTimeout(lane.timer);
    lane.state = "waiting";
    lane.hasWaited = true;
    freeConnections -= 1;
    const batch = lanes.takeFrom(lane, lane.isUnbatched ? 1 : BATCH_ITEMS_MAX);
    await writeWaiting(lane, batch);
    freeConnections += 1;
    // Sorting out may have opened lanes of senders.
    end();
    // Moves to the end of the line: other lanes waiting for a connection go first.
    pause(lane);
    assignConnections();
  }

  async function writeWaiting(lane: ALane, batch: Entry<Item, Result>[]): Promise<void> {
    try {
      const results = await commitWaiting(batch.map(({ item }) => item));
      settleBatch(batch, results);
      lane.openedAtMs = performance.now();
      lane.pauseMs = PAUSE_MIN_MS;
      lane.isUnbatched = false;
    } catch (error) {
      if (isLockConflict(error)) {
        // The lock is held for longer: from now on the lane is only attempted, without waiting on a connection.
        lane.mayWait = false;
        lanes.putBack(new Map([[lane, batch]]));
      } else if (batch.length > 1 && !isServerFailure(error)) {
        // Put back in order, in case the first half has to wait again.
        lanes.putBack(new Map([[lane, batch.splice(batch.length >> 1)]]));
        await writeWaiting(lane, batch);
      } else fail(batch, error);
    }
  }

  /** Returns the remaining items of a lane to the others, behind its items already in the queue. */
  function close(lane: ALane): void {
    clearTimeout(lane.timer);
    lanes.remove(lane);
    const [first] = lane.entries;
    if (!first) return;
    const ofConversation = lanes.findById(first.key);
    if (ofConversation) lanes.addTo(ofConversation, lane.entries);
    else queue.push(...lane.entries);
    lane.entries = [];
    queue.start();
  }

  return { end };
}
