import { Problem } from "../lib/problem.ts";

/** Items of one commit: past some hundreds a larger batch only makes the first of it wait longer. */
export const BATCH_ITEMS_MAX = 500;
/** Bytes of one commit; an item that is larger goes alone. */
const BATCH_BYTES_MAX = 4 * 1024 * 1024;
/** Items that may wait for their commit, and their bytes; beyond it the database is too slow for what comes in. */
export const WAITING_ITEMS_MAX = 20_000;
export const WAITING_BYTES_MAX = 64 * 1024 * 1024;
/** The same for one lane. */
export const LANE_ITEMS_MAX = 1_000;
export const LANE_BYTES_MAX = 8 * 1024 * 1024;
/** When to try again: not all at the same moment, or the database would be as busy then. */
const OVERLOAD_RETRY_MIN_MS = 1_000;
const OVERLOAD_RETRY_SPREAD_MS = 3_000;

/** The result of an item whose conversation is locked by somebody else: nothing was written. */
export const LOCKED = Symbol("locked");
/** The same for an item that needs something else that is locked, which others in its conversation do not need. */
export const ITEM_LOCKED = Symbol("item locked");
export type CommitOutcome<Result> = Result | typeof LOCKED | typeof ITEM_LOCKED;

/** An item on its way to its commit. */
export type Entry<Item, Result> = {
  item: Item;
  key: string;
  sender: string;
  bytes: number;
  sinceMs: number;
  /** The lane that tries it with the next batch. */
  lane: Lane<Item, Result> | null;
  resolve(result: Result): void;
  reject(error: unknown): void;
};

/**
 * What waits for a lock: all items of a conversation, or those of one sender in it.
 * - `paused`: its next try comes when the timer ends, or when a connection of the lanes is free.
 * - `trying`: the first of its items are in the queue, or in the batch that is being written.
 * - `waiting`: the first of them wait in the database.
 */
export type Lane<Item, Result> = {
  id: string;
  state: "paused" | "trying" | "waiting";
  entries: Entry<Item, Result>[];
  bytes: number;
  /** Items that are in the queue or in a batch. */
  out: number;
  /** Whether such an item was found locked. */
  isLocked: boolean;
  openedAtMs: number;
  pauseMs: number;
  timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether it may wait in the database: a conversation whose lock is held only in passing, as far as is known. */
  mayWait: boolean;
  hasWaited: boolean;
  isInTurn: boolean;
  /** Its first item waits for a lock inside the commit, so it is never written together with others. */
  isAlone: boolean;
};

/** The lane of a sender in a conversation; that of the whole conversation has its key alone. */
export const laneIdOf = (key: string, sender: string): string => `${key} ${sender}`;

/** Takes the first entries of a list, within the bounds of a batch; at least one. */
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
