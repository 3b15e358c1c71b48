import {
  createLaneFullProblem,
  createLaneId,
  type Entry,
  extractBatch,
  LANE_BYTES_MAX,
  LANE_ITEMS_MAX,
  type Lane,
} from "./commit-entries.ts";
import type { CommitQueue } from "./commit-queue.ts";

/** The delay before a lane's next attempt. It doubles each time the lane is still locked. */
export const PAUSE_MIN_MS = 3;

/** The lanes and the items waiting in them. commit-attempts.ts schedules their attempts. */
export interface CommitLanes<Item, Result> {
  readonly size: number;
  /** Lanes that have items in the queue or in a batch, and lanes that were just opened. */
  readonly attempting: Set<Lane<Item, Result>>;
  /** Finds the lane that a new item must join. Returns undefined if there is none. */
  find(key: string, sender: string): Lane<Item, Result> | undefined;
  findById(id: string): Lane<Item, Result> | undefined;
  list(): Iterable<Lane<Item, Result>>;
  /** Finds a conversation's lane, or opens one and marks it as locked. */
  findOrOpen(entry: Entry<Item, Result>): Lane<Item, Result>;
  /** Finds or opens a sender's lane in a conversation. The sender's items move from the conversation's lane to a new lane. */
  findOrOpenForSender(entry: Entry<Item, Result>): Lane<Item, Result>;
  addTo(lane: Lane<Item, Result>, entries: Entry<Item, Result>[]): void;
  extractBatch(lane: Lane<Item, Result>, itemsMax: number): Entry<Item, Result>[];
  extract(lane: Lane<Item, Result>, shouldExtract: (entry: Entry<Item, Result>) => boolean): Entry<Item, Result>[];
  /** Puts entries back at the front of their lanes, followed by the same lanes' entries that are still in the queue. */
  putBack(locked: Map<Lane<Item, Result>, Entry<Item, Result>[]>): void;
  /** Records that an item is no longer in the queue or in a batch. */
  removeFromAttempt(entry: Entry<Item, Result>): void;
  /** Removes a lane. The caller must handle its remaining items. */
  remove(lane: Lane<Item, Result>): void;
}

/** Creates the lanes. @param reject called for items that don't fit in a lane. */
export function createCommitLanes<Item, Result>(
  queue: CommitQueue<Entry<Item, Result>>,
  reject: (entry: Entry<Item, Result>, error: unknown) => void,
): CommitLanes<Item, Result> {
  type AnyEntry = Entry<Item, Result>;
  type AnyLane = Lane<Item, Result>;
  const lanes = new Map<string, AnyLane>();
  const attempting = new Set<AnyLane>();

  const find = (key: string, sender: string): AnyLane | undefined =>
    lanes.size === 0 ? undefined : (lanes.get(createLaneId(key, sender)) ?? lanes.get(key));

  function open(id: string, canWaitInDatabase: boolean): AnyLane {
    const lane: AnyLane = {
      id,
      // A new lane is in the same state as a lane whose attempt has just failed because of a lock.
      state: "attempting",
      entries: [],
      bytes: 0,
      inFlightCount: 0,
      isLocked: true,
      openedAtMs: performance.now(),
      pauseMs: PAUSE_MIN_MS,
      timer: undefined,
      canWaitInDatabase,
      hasWaited: false,
      isAwaitingConnection: false,
      isUnbatched: false,
    };
    lanes.set(id, lane);
    attempting.add(lane);
    return lane;
  }

  function addTo(lane: AnyLane, entries: AnyEntry[]): void {
    for (const entry of entries) {
      lane.entries.push(entry);
      lane.bytes += entry.bytes;
    }
  }

  function extract(lane: AnyLane, shouldExtract: (entry: AnyEntry) => boolean): AnyEntry[] {
    const extracted = lane.entries.filter(shouldExtract);
    if (extracted.length > 0) {
      lane.entries = lane.entries.filter((entry) => !shouldExtract(entry));
      for (const { bytes } of extracted) lane.bytes -= bytes;
    }
    return extracted;
  }

  function removeFromAttempt(entry: AnyEntry): void {
    if (entry.lane) entry.lane.inFlightCount -= 1;
    entry.lane = null;
  }

  return {
    get size() {
      return lanes.size;
    },
    attempting,
    find,
    findById: (id) => lanes.get(id),
    list: () => lanes.values(),
    findOrOpen: ({ key, sender }) => find(key, sender) ?? open(key, true),

    findOrOpenForSender({ key, sender }) {
      const id = createLaneId(key, sender);
      const existing = lanes.get(id);
      if (existing) return existing;
      const lane = open(id, false);
      const conversationLane = lanes.get(key);
      if (conversationLane)
        addTo(
          lane,
          extract(conversationLane, (entry) => entry.sender === sender),
        );
      return lane;
    },

    addTo,
    extract,

    extractBatch(lane, itemsMax) {
      const entries = extractBatch(lane.entries, itemsMax);
      for (const { bytes } of entries) lane.bytes -= bytes;
      return entries;
    },

    putBack(locked) {
      const findLockedEntries = (entry: AnyEntry): AnyEntry[] | undefined => {
        const lane = find(entry.key, entry.sender);
        return lane && locked.get(lane);
      };
      for (const entry of queue.extract((queued) => findLockedEntries(queued) !== undefined))
        findLockedEntries(entry)?.push(entry);
      for (const [lane, entries] of locked) {
        for (const entry of entries) removeFromAttempt(entry);
        lane.isLocked = true;
        const laterEntries = lane.entries;
        lane.entries = [];
        lane.bytes = 0;
        addTo(lane, entries);
        addTo(lane, laterEntries);
        while (lane.entries.length > LANE_ITEMS_MAX || lane.bytes > LANE_BYTES_MAX) {
          const entry = lane.entries.pop() as AnyEntry;
          lane.bytes -= entry.bytes;
          reject(entry, createLaneFullProblem());
        }
      }
    },

    removeFromAttempt,
    remove: (lane) => void lanes.delete(lane.id),
  };
}
