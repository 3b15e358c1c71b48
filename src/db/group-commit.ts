import { Problem } from "../lib/problem.ts";
import { createSidePool, type Database, isDatabaseAway, isLockConflict, isStatementTimeout } from "./client.ts";

/** Items of one commit: past some hundreds a larger batch only makes the first of it wait longer. */
export const BATCH_ITEMS_MAX = 500;
/** Bytes of one commit; an item that is larger goes alone. */
export const BATCH_BYTES_MAX = 4 * 1024 * 1024;
/** Items that may wait for their commit, and their bytes; beyond it the database is too slow for what comes in. */
export const WAITING_ITEMS_MAX = 20_000;
export const WAITING_BYTES_MAX = 64 * 1024 * 1024;
/** The same for one lane. */
export const LANE_ITEMS_MAX = 1_000;
export const LANE_BYTES_MAX = 8 * 1024 * 1024;
/** Conversations whose lock is waited for in the database at the same time; each takes a connection of its own. */
export const LANES_WAITING_MAX = 3;
/** An item that has waited this long fails. */
export const LANE_TIMEOUT_MS = 12_000;
/** A batch that takes longer is cancelled, and written in halves. */
const BATCH_TIMEOUT_MS = 4_000;

/** The pause of a lane before its next try; it doubles with each try that finds it locked. */
const PAUSE_MIN_MS = 3;
const PAUSE_MAX_MS = 25;
/** A lane that has been locked for so long waits in the database: then somebody holds the lock more than in passing. */
const WAIT_AFTER_MS = 30;
/** So many items are worth a commit of their own, so their lane waits at once: two instances write into a busy conversation. */
const WAIT_ITEMS_MIN = 16;
/** A lane that has been locked for so long is tried less often, and by its first item alone. */
const SLOW_AFTER_MS = 1_000;
const SLOW_PAUSE_MS = 100;
/** Slow lanes together are tried so often a second, however many there are. */
const SLOW_TRIES_PER_S = 1_000;
/** The pause of an item whose commit waits for a lock: meanwhile it holds the lock of its conversation. */
const ALONE_PAUSE_MS = 500;
const EXPIRY_CHECK_MS = 250;
const OVERLOAD_RETRY_AFTER_MS = 1_000;

/** The result of an item whose conversation is locked by somebody else: nothing was written. */
export const LOCKED = Symbol("locked");
/** The same for an item that needs something else that is locked, which others in its conversation do not need. */
export const ITEM_LOCKED = Symbol("item locked");
type Outcome<Result> = Result | typeof LOCKED | typeof ITEM_LOCKED;

export type GroupCommitOptions<Item, Result> = {
  /** The conversation of an item. */
  keyOf(item: Item): string;
  /** Whose items keep their order within a conversation. */
  senderOf(item: Item): string;
  bytesOf(item: Item): number;
  /**
   * Writes a batch in one transaction, and returns a result for each item, in order. It waits for no lock: an item that
   * needs one gets `LOCKED` or `ITEM_LOCKED`, and so do later items of its sender in the same conversation.
   */
  commit(items: Item[]): Promise<Outcome<Result>[]>;
  /**
   * The same for items of one conversation, on a connection of the lanes. It waits for the lock of the conversation, for a
   * limited time, and for no other.
   */
  commitWaiting(items: Item[]): Promise<Outcome<Result>[]>;
  laneTimeoutMs?: number;
};

type Entry<Item, Result> = {
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
type Lane<Item, Result> = {
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

/**
 * Group commit: items that arrive during a commit are written together by the next one. A single item is written at once;
 * under load the cost of a transaction is shared by hundreds of items.
 *
 * What is locked by somebody else never holds up the others: its items leave the batch for a lane, and later items of the
 * same conversation or sender join it, so the order of a sender's items is kept. A lane is tried again with one of the next
 * batches, soon at first. If its conversation stays locked, it waits for the lock on a connection of the lanes, once and for
 * a limited time, so that two instances take turns in a busy conversation.
 */
export function createGroupCommit<Item, Result>(options: GroupCommitOptions<Item, Result>) {
  const { keyOf, senderOf, bytesOf, commit, commitWaiting, laneTimeoutMs = LANE_TIMEOUT_MS } = options;
  type AnEntry = Entry<Item, Result>;
  type ALane = Lane<Item, Result>;
  let queue: AnEntry[] = [];
  let isRunning = false;
  /** Everything that has no result yet. */
  let waitingCount = 0;
  let waitingBytes = 0;
  let expiry: ReturnType<typeof setInterval> | undefined;
  /** By conversation, or by conversation and sender. */
  const lanes = new Map<string, ALane>();
  const trying = new Set<ALane>();
  /** Lanes that wait for a connection. */
  const turns: ALane[] = [];
  let freeConnections = LANES_WAITING_MAX;

  const findLane = (key: string, sender: string): ALane | undefined =>
    lanes.size === 0 ? undefined : (lanes.get(laneIdOf(key, sender)) ?? lanes.get(key));

  function start(): void {
    if (isRunning || queue.length === 0) return;
    isRunning = true;
    // At the end of this turn, so that all frames that came in with it go together: a microtask would run after the first
    // of them.
    setImmediate(run);
  }

  async function run(): Promise<void> {
    while (queue.length > 0) await write(takeBatch(queue));
    isRunning = false;
  }

  async function write(batch: AnEntry[]): Promise<void> {
    try {
      const results = await commit(batch.map(({ item }) => item));
      sortOut(batch, results);
    } catch (error) {
      const [first] = batch;
      if (batch.length > 1 && !isDatabaseAway(error)) {
        // One item may be at fault. The second half goes back to its place.
        queue.unshift(...batch.splice(batch.length >> 1));
        await write(batch);
      } else if (first && isLockConflict(error)) {
        // A lock that is not known beforehand, such as that of the user that a message refers to.
        const lane = findSenderLane(first);
        lane.isAlone = true;
        putBack(new Map([[lane, [first]]]));
      } else fail(batch, error);
    }
    endTries();
  }

  /** Results go to who waits for them, and what is locked to its lane. */
  function sortOut(batch: AnEntry[], results: Outcome<Result>[]): void {
    const locked = new Map<ALane, AnEntry[]>();
    for (const [index, entry] of batch.entries()) {
      const result = results[index] as Outcome<Result>;
      if (result !== LOCKED && result !== ITEM_LOCKED) {
        settle(entry);
        entry.resolve(result);
        continue;
      }
      const lane =
        result === LOCKED ? (findLane(entry.key, entry.sender) ?? openLane(entry.key, true)) : findSenderLane(entry);
      const ofLane = locked.get(lane);
      if (ofLane) ofLane.push(entry);
      else locked.set(lane, [entry]);
    }
    if (locked.size > 0) putBack(locked);
  }

  function openLane(id: string, mayWait: boolean): ALane {
    const lane: ALane = {
      id,
      // It ends like a try that has found it locked.
      state: "trying",
      entries: [],
      bytes: 0,
      out: 0,
      isLocked: true,
      openedAtMs: performance.now(),
      pauseMs: PAUSE_MIN_MS,
      timer: undefined,
      mayWait,
      hasWaited: false,
      isInTurn: false,
      isAlone: false,
    };
    lanes.set(id, lane);
    trying.add(lane);
    return lane;
  }

  /** The lane of a sender in a conversation; a new one takes what waits of it in the lane of the conversation. */
  function findSenderLane({ key, sender }: AnEntry): ALane {
    const id = laneIdOf(key, sender);
    const known = lanes.get(id);
    if (known) return known;
    const lane = openLane(id, false);
    const ofConversation = lanes.get(key);
    if (ofConversation)
      addTo(
        lane,
        extract(ofConversation, (entry) => entry.sender === sender),
      );
    return lane;
  }

  /** Into their lanes, before what waits there, followed by what of the same lanes is still in the queue. */
  function putBack(locked: Map<ALane, AnEntry[]>): void {
    if (queue.length > 0)
      queue = queue.filter((entry) => {
        const lane = findLane(entry.key, entry.sender);
        const followed = lane && locked.get(lane);
        followed?.push(entry);
        return !followed;
      });
    for (const [lane, entries] of locked) {
      for (const entry of entries) leaveTry(entry);
      lane.isLocked = true;
      const later = lane.entries;
      lane.entries = [];
      lane.bytes = 0;
      addTo(lane, entries);
      addTo(lane, later);
      while (lane.entries.length > LANE_ITEMS_MAX || lane.bytes > LANE_BYTES_MAX) {
        const entry = lane.entries.pop() as AnEntry;
        lane.bytes -= entry.bytes;
        settle(entry);
        entry.reject(createLaneFull());
      }
    }
  }

  function addTo(lane: ALane, entries: AnEntry[]): void {
    for (const entry of entries) {
      lane.entries.push(entry);
      lane.bytes += entry.bytes;
    }
  }

  function extract(lane: ALane, isExtracted: (entry: AnEntry) => boolean): AnEntry[] {
    const extracted = lane.entries.filter(isExtracted);
    if (extracted.length > 0) {
      lane.entries = lane.entries.filter((entry) => !isExtracted(entry));
      for (const { bytes } of extracted) lane.bytes -= bytes;
    }
    return extracted;
  }

  function takeFrom(lane: ALane, itemsMax: number): AnEntry[] {
    const entries = takeBatch(lane.entries, itemsMax);
    for (const { bytes } of entries) lane.bytes -= bytes;
    return entries;
  }

  /** An item is out of the hands of the lane that tried it. */
  function leaveTry(entry: AnEntry): void {
    if (entry.lane) entry.lane.out -= 1;
    entry.lane = null;
  }

  /** Lanes whose try is over pause if they are still locked; otherwise what waits behind is free to go. */
  function endTries(): void {
    for (const lane of trying) {
      if (lane.out > 0) continue;
      trying.delete(lane);
      if (lane.isLocked) pause(lane);
      else closeLane(lane);
    }
  }

  function pause(lane: ALane): void {
    if (lane.entries.length === 0) {
      closeLane(lane);
      return;
    }
    lane.state = "paused";
    const isSlow = isSlowLane(lane);
    if (lane.isAlone) lane.pauseMs = ALONE_PAUSE_MS;
    else if (isSlow) lane.pauseMs = Math.max(SLOW_PAUSE_MS, (lanes.size * 1_000) / SLOW_TRIES_PER_S);
    lane.timer = setTimeout(tryLane, lane.pauseMs, lane);
    lane.pauseMs = Math.min(lane.pauseMs * 2, PAUSE_MAX_MS);
    if (lane.mayWait && isDue(lane)) askForTurn(lane);
  }

  const isDue = ({ hasWaited, entries, openedAtMs }: ALane): boolean =>
    hasWaited || entries.length >= WAIT_ITEMS_MIN || performance.now() - openedAtMs >= WAIT_AFTER_MS;

  function askForTurn(lane: ALane): void {
    if (!lane.isInTurn) turns.push(lane);
    lane.isInTurn = true;
    giveTurns();
  }

  const isSlowLane = (lane: ALane): boolean => performance.now() - lane.openedAtMs >= SLOW_AFTER_MS;

  /** Its items take part in the next batch; of a lane that has been locked for long only the first one. */
  function tryLane(lane: ALane): void {
    if (lane.isAlone) {
      askForTurn(lane);
      return;
    }
    const entries = takeFrom(lane, isSlowLane(lane) ? 1 : BATCH_ITEMS_MAX);
    lane.state = "trying";
    lane.isLocked = false;
    lane.out = entries.length;
    trying.add(lane);
    for (const entry of entries) entry.lane = lane;
    queue.unshift(...entries);
    if (entries.length === 0) endTries();
    else start();
  }

  function giveTurns(): void {
    while (freeConnections > 0) {
      const lane = turns.shift();
      if (!lane) return;
      lane.isInTurn = false;
      // If it is being tried, it comes again if it is still locked.
      if (lanes.get(lane.id) !== lane || lane.state !== "paused") continue;
      if (lane.entries.length > 0) void wait(lane);
      else closeLane(lane);
    }
  }

  /** Waits for the lock of its conversation in the database, and writes all that waits for it. */
  async function wait(lane: ALane): Promise<void> {
    clearTimeout(lane.timer);
    lane.state = "waiting";
    lane.hasWaited = true;
    freeConnections -= 1;
    const batch = takeFrom(lane, lane.isAlone ? 1 : BATCH_ITEMS_MAX);
    await writeWaiting(lane, batch);
    freeConnections += 1;
    // Lanes of senders that were opened.
    endTries();
    // To the end of the line; others that wait for a connection have their turn before.
    pause(lane);
    giveTurns();
  }

  async function writeWaiting(lane: ALane, batch: AnEntry[]): Promise<void> {
    try {
      const results = await commitWaiting(batch.map(({ item }) => item));
      sortOut(batch, results);
      lane.openedAtMs = performance.now();
      lane.pauseMs = PAUSE_MIN_MS;
      lane.isAlone = false;
    } catch (error) {
      if (isLockConflict(error)) {
        // Somebody holds it for longer: from now on it is only tried, and takes no connection.
        lane.mayWait = false;
        putBack(new Map([[lane, batch]]));
      } else if (batch.length > 1 && !isDatabaseAway(error)) {
        // Back in its place, in case the first half has to wait again.
        putBack(new Map([[lane, batch.splice(batch.length >> 1)]]));
        await writeWaiting(lane, batch);
      } else fail(batch, error);
    }
  }

  /** What is left of a lane goes on with the others, behind what of it is in the queue already. */
  function closeLane(lane: ALane): void {
    clearTimeout(lane.timer);
    lanes.delete(lane.id);
    const [first] = lane.entries;
    if (!first) return;
    const ofConversation = lanes.get(first.key);
    if (ofConversation) addTo(ofConversation, lane.entries);
    else queue.push(...lane.entries);
    lane.entries = [];
    start();
  }

  /** What failed for now may work later, so what the same senders have sent after it fails with it: nothing overtakes. */
  function fail(entries: AnEntry[], error: unknown): void {
    for (const entry of entries) {
      settle(entry);
      entry.reject(error);
    }
    if (isDatabaseAway(error) || isStatementTimeout(error) || isLockConflict(error))
      refuseLater(new Set(entries.map(({ key, sender }) => laneIdOf(key, sender))), error);
  }

  function refuseLater(senders: Set<string>, error: unknown): void {
    const isLater = ({ key, sender }: AnEntry) => senders.has(laneIdOf(key, sender));
    const later = queue.filter(isLater);
    if (later.length > 0) queue = queue.filter((entry) => !isLater(entry));
    for (const lane of lanes.values()) later.push(...extract(lane, isLater));
    for (const entry of later) {
      settle(entry);
      entry.reject(error);
    }
  }

  /** What has waited too long fails, and with it what its sender has sent after it. */
  function expire(): void {
    const oldestMs = performance.now() - laneTimeoutMs;
    const late = new Set<string>();
    for (const entries of [queue, ...[...lanes.values()].map((lane) => lane.entries)])
      for (const { sinceMs, key, sender } of entries) if (sinceMs <= oldestMs) late.add(laneIdOf(key, sender));
    if (late.size === 0) return;
    refuseLater(late, createOverloaded("What is to be changed is locked by another change. Try again."));
    endTries();
  }

  /** An item has its result. */
  function settle(entry: AnEntry): void {
    leaveTry(entry);
    waitingCount -= 1;
    waitingBytes -= entry.bytes;
    if (waitingCount > 0) return;
    clearInterval(expiry);
    expiry = undefined;
  }

  return {
    /**
     * Fulfils once the item is committed. Items of one conversation are numbered in the order of these calls.
     * @throws Problem `overloaded` when too many wait, or the item has waited too long; whatever a commit throws.
     */
    submit(item: Item): Promise<Result> {
      return new Promise((resolve, reject) => {
        const [key, sender, bytes] = [keyOf(item), senderOf(item), bytesOf(item)];
        if (waitingCount >= WAITING_ITEMS_MAX || waitingBytes >= WAITING_BYTES_MAX)
          return reject(createOverloaded("Too many messages are waiting to be stored."));
        const lane = findLane(key, sender);
        if (lane && (lane.entries.length >= LANE_ITEMS_MAX || lane.bytes >= LANE_BYTES_MAX))
          return reject(createLaneFull());
        const entry: AnEntry = { item, key, sender, bytes, sinceMs: performance.now(), lane: null, resolve, reject };
        waitingCount += 1;
        waitingBytes += bytes;
        expiry ??= setInterval(expire, Math.min(EXPIRY_CHECK_MS, laneTimeoutMs / 10));
        if (lane) return addTo(lane, [entry]);
        queue.push(entry);
        start();
      });
    },

    /** Items that wait for a commit. */
    waiting: (): number => waitingCount,
  };
}

/**
 * Connections for commits alone, whose statements have a shorter timeout: one for the batches, which stays open, and one for
 * each lane that waits.
 */
export function createCommitPools(database: Database) {
  const statementTimeoutMs = BATCH_TIMEOUT_MS;
  const batches = createSidePool(database, 1, { statementTimeoutMs, idleTimeoutS: 0 });
  const lanes = createSidePool(database, LANES_WAITING_MAX, { statementTimeoutMs });
  return {
    openBatches: batches.open,
    openLanes: lanes.open,
    async close(): Promise<void> {
      await Promise.all([batches.close(), lanes.close()]);
    },
  };
}

const laneIdOf = (key: string, sender: string): string => `${key} ${sender}`;

/** Takes the first entries of a list, within the bounds of a batch; at least one. */
function takeBatch<Entry extends { bytes: number }>(entries: Entry[], itemsMax = BATCH_ITEMS_MAX): Entry[] {
  let bytes = 0;
  let count = 0;
  for (const entry of entries) {
    bytes += entry.bytes;
    if (count > 0 && (count >= itemsMax || bytes > BATCH_BYTES_MAX)) break;
    count += 1;
  }
  return entries.splice(0, count);
}

const createOverloaded = (detail: string): Problem =>
  new Problem("overloaded", detail, { retryAfterMs: OVERLOAD_RETRY_AFTER_MS });

const createLaneFull = (): Problem => createOverloaded("Too many messages are waiting for this conversation.");
