import { Problem } from "../lib/problem.ts";

/** Items per commit: beyond some hundreds a larger batch only delays its first items. */
export const BATCH_ITEMS_MAX = 500;
/** Bytes per commit; a larger item is committed alone. */
const BATCH_BYTES_MAX = 4 * 1024 * 1024;
/** Limits on items waiting for their commit, and on their bytes; above them the database is too slow for the load. */
export const WAITING_ITEMS_MAX = 20_000;
export const WAITING_BYTES_MAX = 64 * 1024 * 1024;
/** The same limits for one lane. */
export const LANE_ITEMS_MAX = 1_000;
export const LANE_BYTES_MAX = 8 * 1024 * 1024;
/** Base retry delay, with jitter to spread the retries. */
const OVERLOAD_RETRY_MIN_MS = 1_000;
const OVERLOAD_RETRY_SPREAD_MS = 3_000;

/** The result of an item whose conversation is locked by another transaction: nothing was written. */
export const LOCKED = Symbol("locked");
/** Like `LOCKED`, for another lock that only this item needs, not others in its conversation. */
export const ITEM_LOCKED = Symbol("item locked");
export type CommitOutcome<Result> = Result | typeof LOCKED | typeof ITEM_LOCKED;

/** An item on its way to its commit. */
export type Entry<Item, Result> = {
  item: Item;
  key: string;
  sender: string;
  bytes: number;
  sinceMs: number;
  /** The lane that includes it in the next batch. */
  lane: Lane<Item, Result> | null;
  resolve(result: Result): void;
  reject(error: unknown): void;
};

/**
 * Items waiting for a lock: all of a conversation, or those of one sender in it.
 * - `paused`: the next attempt starts when the timer fires, or when a lane connection is free.
 * - `attempting`: its first items are in the queue, or in the batch being written.
 * - `waiting`: its first items wait in the database.
 */
export type Lane<Item, Result> = {
  id: string;
  state: "paused" | "attempting" | "waiting";
  entries: Entry<Item, Result>[];
  bytes: number;
  /** Items in the queue or in a batch. */
  inFlight: number;
  /** Whether any of these items was found locked. */
  isLocked: boolean;
  openedAtMs: number;
  pauseMs: number;
  timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether it may wait in the database: a conversation whose lock seems to be held only briefly. */
  mayWait: boolean;
  hasWaited: boolean;
  isQueued: boolean;
  /** Its first item waits for a lock inside the commit, so it is never batched with others. */
  isUnbatched: boolean;
};

/** The id of a sender's lane in a conversation. The lane of the whole conversation uses the key alone. */
export const laneIdOf = (key: string, sender: string): string => `${key} ${sender}`;

/** Removes the first entries of a list, within the limits of a batch; at least one. */
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
