import { Problem } from "../lib/problem.ts";

/** The maximum number of items per commit. Beyond a few hundred, a larger batch only delays its first items. */
export const BATCH_ITEMS_MAX = 500;
/** The maximum number of bytes per commit. A larger item is committed alone. */
const BATCH_BYTES_MAX = 4 * 1024 * 1024;
/** The maximum number and bytes of items that wait for their commit. If they are reached, the database is too slow for the load. */
export const WAITING_ITEMS_MAX = 20_000;
export const WAITING_BYTES_MAX = 64 * 1024 * 1024;
/** The same limits for one lane. */
export const LANE_ITEMS_MAX = 1_000;
export const LANE_BYTES_MAX = 8 * 1024 * 1024;
/** The minimum retry delay. Jitter is added to spread the retries. */
const OVERLOAD_RETRY_MIN_MS = 1_000;
const OVERLOAD_RETRY_SPREAD_MS = 3_000;

/** The result of an item that wasn't written because another transaction has locked its conversation. */
export const LOCKED = Symbol("locked");
/** The result of an item that wasn't written because of another lock, which other items of its conversation don't need. */
export const ITEM_LOCKED = Symbol("item locked");
export type CommitOutcome<Result> = Result | typeof LOCKED | typeof ITEM_LOCKED;

/** An item that waits for its commit. */
export type Entry<Item, Result> = {
  item: Item;
  key: string;
  sender: string;
  bytes: number;
  sinceMs: number;
  /** The lane that has put this item into the queue for the next batch; null if none has. */
  lane: Lane<Item, Result> | null;
  resolve(result: Result): void;
  reject(error: unknown): void;
};

/**
 * Items that wait for a lock: all items of a conversation, or those of one sender in it.
 * - `paused`: the next attempt starts when the timer fires or a lane connection is free.
 * - `attempting`: the first items are in the queue, or in the batch that is being written.
 * - `waiting`: the first items wait in the database.
 */
export type Lane<Item, Result> = {
  id: string;
  state: "paused" | "attempting" | "waiting";
  entries: Entry<Item, Result>[];
  bytes: number;
  /** The number of items in the queue or in a batch. */
  inFlight: number;
  /** Whether any of these items was found locked. */
  isLocked: boolean;
  openedAtMs: number;
  pauseMs: number;
  timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether the lane may wait in the database: it holds a whole conversation, whose lock seems to be held only briefly. */
  mayWait: boolean;
  hasWaited: boolean;
  isQueued: boolean;
  /** Whether the first item waits for another lock during its commit, so that it must not be batched with others. */
  isUnbatched: boolean;
};

/** Returns the id of a sender's lane in a conversation. The id of a whole conversation's lane is the key alone. */
export const laneIdOf = (key: string, sender: string): string => `${key} ${sender}`;

/** Removes and returns the first entries of a list that fit in a batch, at least one. */
export function takeBatch<E extends { bytes: number }>(entries: E[], itemsMax = BATCH_ITEMS_MAX): E[] {
  let bytes = 0;
  let count = 0;
  for (const entry of entries) {
    bytes += entry.bytes;
    if (count > 0 && (count >= itemsMax || bytes > BATCH_BYTES_MAX)) break;
    count += 1;
  }
  return entries.splice(0, count);
}

export const createOverloaded = (detail: string): Problem =>
  new Problem("overloaded", detail, {
    retryAfterMs: Math.round(OVERLOAD_RETRY_MIN_MS + Math.random() * OVERLOAD_RETRY_SPREAD_MS),
  });

export const createLaneFull = (): Problem => createOverloaded("Too many messages are waiting for this conversation.");
