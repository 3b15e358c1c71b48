import { Problem } from "../lib/problem.ts";
import { isDatabaseAway, isLockConflict, isStatementTimeout } from "./client.ts";

/** Items of one commit: past some hundreds a larger batch only makes the first of it wait longer. */
export const BATCH_ITEMS_MAX = 500;
/** Bytes of one commit; an item that is larger goes alone. */
export const BATCH_BYTES_MAX = 4 * 1024 * 1024;
/** Items that may wait for a commit, and their bytes; beyond it the database is too slow for what comes in. */
export const QUEUE_ITEMS_MAX = 20_000;
export const QUEUE_BYTES_MAX = 64 * 1024 * 1024;
/** The same for one conversation that is locked by somebody else. */
export const LANE_ITEMS_MAX = 1_000;
export const LANE_BYTES_MAX = 8 * 1024 * 1024;
/** Conversations whose lock is waited for at the same time; each takes a connection of its own. */
export const LANES_WAITING_MAX = 3;
/** An item that this many batches have found locked waits in a lane; before, the lock may be gone in a moment. */
const SKIPS_MAX = 2;
/** An item that has waited this long for a locked conversation fails. */
export const LANE_TIMEOUT_MS = 12_000;
const OVERLOAD_RETRY_AFTER_MS = 1_000;

/** The result of an item whose conversation is locked by somebody else: nothing was written. */
export const LOCKED = Symbol("locked");

export type GroupCommitOptions<Item, Result> = {
  /** The conversation of an item. */
  keyOf(item: Item): string;
  /** Whose items keep their order within a conversation. */
  senderOf(item: Item): string;
  bytesOf(item: Item): number;
  /**
   * Writes a batch in one transaction, and returns a result for each item, in order. It waits for no lock: an item whose
   * conversation is locked gets `LOCKED`.
   */
  commit(items: Item[]): Promise<(Result | typeof LOCKED)[]>;
  /** The same for items of one conversation, on a connection of the lanes. It waits for the lock, for a limited time. */
  commitWaiting(items: Item[]): Promise<Result[]>;
};

type Waiting<Item, Result> = {
  item: Item;
  /** How often a batch has found it locked. */
  skips: number;
  sinceMs: number;
  resolve(result: Result): void;
  reject(error: unknown): void;
};

/**
 * Group commit: items that arrive during a commit are written together by the next one. A single item is written at once;
 * under load the cost of a transaction is shared by hundreds of items.
 *
 * A conversation that is locked by somebody else never holds up the others: its items leave the batch for a lane of the
 * conversation, where its lock is waited for. As long as the lane is busy, later items of the conversation join it, so the
 * order of a sender's items is kept.
 */
export function createGroupCommit<Item, Result>(options: GroupCommitOptions<Item, Result>) {
  const { keyOf, senderOf, bytesOf, commit, commitWaiting } = options;
  type Entry = Waiting<Item, Result>;
  let queue: Entry[] = [];
  let queueBytes = 0;
  let isRunning = false;
  const lanes = new Map<string, Lane<Entry>>();
  const connections = createSemaphore(LANES_WAITING_MAX);

  async function run(): Promise<void> {
    isRunning = true;
    while (queue.length > 0) {
      const batch = takeBatch(queue, (entry) => bytesOf(entry.item));
      for (const { item } of batch) queueBytes -= bytesOf(item);
      await write(batch);
    }
    isRunning = false;
  }

  async function write(batch: Entry[]): Promise<void> {
    try {
      const results = await commit(batch.map(({ item }) => item));
      const locked: Entry[] = [];
      for (const [index, entry] of batch.entries()) {
        const result = results[index] as Result | typeof LOCKED;
        if (result === LOCKED) locked.push(entry);
        else entry.resolve(result);
      }
      if (locked.length > 0) leaveOut(locked);
    } catch (error) {
      // A lock that even this batch had to wait for: alone, the conversations that are free go on.
      if (isLockConflict(error)) moveToLanes(batch);
      else if (isSplit(batch, error)) {
        const [first, second] = halve(batch);
        // Back to its place: what of the first half is found locked has to come before it.
        queue = [...second, ...queue];
        for (const { item } of second) queueBytes += bytesOf(item);
        await write(first);
      }
    }
  }

  /** Locked items have their turn again with the next batch, before all others, or go to their lanes. */
  function leaveOut(locked: Entry[]): void {
    for (const entry of locked) entry.skips += 1;
    const waiting = new Set(locked.filter(({ skips }) => skips >= SKIPS_MAX).map(({ item }) => keyOf(item)));
    const again = locked.filter(({ item }) => !waiting.has(keyOf(item)));
    queue = [...again, ...queue];
    for (const { item } of again) queueBytes += bytesOf(item);
    if (waiting.size > 0) moveToLanes(locked.filter(({ item }) => waiting.has(keyOf(item))));
  }

  /** Whether a failed batch is to be written in halves, since one item may be at fault; otherwise its items have failed. */
  function isSplit(batch: Entry[], error: unknown): boolean {
    // These would befall each half alike.
    if (batch.length > 1 && !isDatabaseAway(error) && !isStatementTimeout(error)) return true;
    for (const { reject } of batch) reject(error);
    return false;
  }

  const halve = (batch: Entry[]) => [batch.slice(0, batch.length >> 1), batch.slice(batch.length >> 1)] as const;

  /** Into the lanes of their conversations, followed by what waits for the same conversations already. */
  function moveToLanes(entries: Entry[]): void {
    const opened = new Set<string>();
    for (const entry of entries) {
      const key = keyOf(entry.item);
      if (!lanes.has(key)) {
        lanes.set(key, { entries: [], bytes: 0 });
        opened.add(key);
      }
      joinLane(key, entry);
    }
    const isFollower = ({ item }: Entry) => opened.has(keyOf(item));
    const followers = queue.filter(isFollower);
    if (followers.length > 0) {
      queue = queue.filter((entry) => !isFollower(entry));
      for (const entry of followers) {
        queueBytes -= bytesOf(entry.item);
        joinLane(keyOf(entry.item), entry);
      }
    }
    for (const key of opened) void runLane(key);
  }

  function joinLane(key: string, entry: Entry): void {
    const lane = lanes.get(key);
    if (!lane) return;
    if (lane.entries.length >= LANE_ITEMS_MAX || lane.bytes >= LANE_BYTES_MAX) {
      entry.reject(createOverloaded("Too many messages are waiting for this conversation."));
      return;
    }
    lane.entries.push(entry);
    lane.bytes += bytesOf(entry.item);
  }

  async function runLane(key: string): Promise<void> {
    const lane = lanes.get(key);
    if (!lane) return;
    while (lane.entries.length > 0) {
      // After each try the others that wait have their turn.
      const release = await connections.take();
      const batch = takeBatch(lane.entries, (entry) => bytesOf(entry.item));
      try {
        await writeWaiting(lane, batch);
      } finally {
        release();
      }
      lane.bytes = lane.entries.reduce((sum, { item }) => sum + bytesOf(item), 0);
    }
    lanes.delete(key);
  }

  async function writeWaiting(lane: Lane<Entry>, batch: Entry[]): Promise<void> {
    try {
      const results = await commitWaiting(batch.map(({ item }) => item));
      for (const [index, { resolve }] of batch.entries()) resolve(results[index] as Result);
    } catch (error) {
      if (isLockConflict(error)) {
        lane.entries.unshift(...batch);
        expire(lane);
      } else if (isSplit(batch, error)) {
        const [first, second] = halve(batch);
        // Back in its place, in case the first half has to wait again.
        lane.entries.unshift(...second);
        await writeWaiting(lane, first);
      }
    }
  }

  /** What has waited too long fails, and with it what its sender has sent after it: nothing overtakes. */
  function expire(lane: Lane<Entry>): void {
    const oldestMs = performance.now() - LANE_TIMEOUT_MS;
    const late = new Set<string>();
    lane.entries = lane.entries.filter((entry) => {
      const sender = senderOf(entry.item);
      if (entry.sinceMs > oldestMs && !late.has(sender)) return true;
      late.add(sender);
      entry.reject(createOverloaded("The conversation is locked by another change. Try again."));
      return false;
    });
  }

  return {
    /**
     * Fulfils once the item is committed. Items of one conversation are numbered in the order of these calls.
     * @throws Problem `overloaded` when too many wait, or the conversation stays locked; whatever a commit throws.
     */
    submit(item: Item): Promise<Result> {
      const key = keyOf(item);
      return new Promise((resolve, reject) => {
        const entry: Entry = { item, skips: 0, sinceMs: performance.now(), resolve, reject };
        if (lanes.has(key)) return joinLane(key, entry);
        if (queue.length >= QUEUE_ITEMS_MAX || queueBytes >= QUEUE_BYTES_MAX)
          return reject(createOverloaded("Too many messages are waiting to be stored."));
        queue.push(entry);
        queueBytes += bytesOf(item);
        // At the end of this turn, so that all frames that came in with it go together: a microtask would run after the
        // first of them.
        if (!isRunning) {
          isRunning = true;
          setImmediate(run);
        }
      });
    },

    /** Items that wait for a commit. */
    waiting: (): number => queue.length + lanes.values().reduce((sum, lane) => sum + lane.entries.length, 0),
  };
}

type Lane<Entry> = { entries: Entry[]; bytes: number };

/** Takes the first entries of a list, within the bounds of a batch; at least one. */
function takeBatch<Entry>(entries: Entry[], bytesOf: (entry: Entry) => number): Entry[] {
  let bytes = 0;
  let count = 0;
  for (const entry of entries) {
    bytes += bytesOf(entry);
    if (count > 0 && (count >= BATCH_ITEMS_MAX || bytes > BATCH_BYTES_MAX)) break;
    count += 1;
  }
  return entries.splice(0, count);
}

const createOverloaded = (detail: string): Problem =>
  new Problem("overloaded", detail, { retryAfterMs: OVERLOAD_RETRY_AFTER_MS });

/** Places that are given out in the order in which they are asked for. */
function createSemaphore(places: number) {
  let free = places;
  const waiting: (() => void)[] = [];
  const release = () => {
    const next = waiting.shift();
    if (next) next();
    else free += 1;
  };
  return {
    /** @returns gives the place back. */
    async take(): Promise<() => void> {
      if (free > 0) free -= 1;
      else await new Promise<void>((resolve) => waiting.push(resolve));
      return release;
    },
  };
}
