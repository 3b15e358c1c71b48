import { Problem } from "../lib/problem.ts";

/** The maximum number of items per commit. Beyond a few hundred, a larger batch only delays its first items. */
export const BATCH_ITEMS_MAX = 500;
/** The maximum number of bytes per commit. A larger item is committed alone. */
const BATCH_BYTES_MAX = 4 * 1024 * 1024;
/** The maximum number of items that wait for their commit. If this limit is reached, the database is too slow for the load. */
export const WAITING_ITEMS_MAX = 20_000;
/** The maximum total size of all waiting items. */
export const WAITING_BYTES_MAX = 64 * 1024 * 1024;
/** The maximum number of items that wait in one lane. */
export const LANE_ITEMS_MAX = 1_000;
/** The maximum total size of the items in one lane. */
export const LANE_BYTES_MAX = 8 * 1024 * 1024;
/** The minimum retry delay, to which jitter is added. */
const OVERLOAD_RETRY_MIN_MS = 1_000;
const OVERLOAD_RETRY_SPREAD_MS = 3_000;

/** The outcome of an item that wasn't written because another transaction has locked its conversation. */
export const LOCKED = Symbol("locked");
/** The outcome of an item that wasn't written because of another lock, which the conversation's other items may not need. */
export const ITEM_LOCKED = Symbol("item locked");
export type CommitOutcome<Result> = Result | typeof LOCKED | typeof ITEM_LOCKED;

/** An item that waits for its commit. */
export type Entry<Item, Result> = {
  item: Item;
  key: string;
  sender: string;
  bytes: number;
  submittedAtMs: number;
  /** The lane that has put this item into the queue, or null. */
  lane: Lane<Item, Result> | null;
  resolve(result: Result): void;
  reject(error: unknown): void;
};

/**
 * A list of items that wait for a lock: either all items of a conversation, or one sender's items in it.
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
  inFlightCount: number;
  /** Whether any of the items in flight was locked. */
  isLocked: boolean;
  openedAtMs: number;
  pauseMs: number;
  timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether the lane can wait in the database. Single senders' lanes can't. Neither can lanes whose lock is held for a long time. */
  canWaitInDatabase: boolean;
  hasWaited: boolean;
  isAwaitingConnection: boolean;
  /** Whether the first item must not be batched with other items, because it waits for an additional lock during its commit. */
  isUnbatched: boolean;
};

/** Returns the id of a sender's lane in a conversation. The id of a conversation's own lane is just the key. */
export const createLaneId = (key: string, sender: string): string => `${key} ${sender}`;

/** Removes and returns as many entries as fit in a batch, but at least one. */
export function extractBatch<E extends { bytes: number }>(entries: E[], itemsMax = BATCH_ITEMS_MAX): E[] {
  let bytes = 0;
  let count = 0;
  for (const entry of entries) {
    bytes += entry.bytes;
    if (count > 0 && (count >= itemsMax || bytes > BATCH_BYTES_MAX)) break;
    count += 1;
  }
  return entries.splice(0, count);
}

export const createOverloadedProblem = (detail: string): Problem =>
  new Problem("overloaded", detail, {
    retryAfterMs: Math.round(OVERLOAD_RETRY_MIN_MS + Math.random() * OVERLOAD_RETRY_SPREAD_MS),
  });

export const createLaneFullProblem = (): Problem =>
  createOverloadedProblem("Too many messages are waiting for this conversation.");
