import {
  createLaneFull,
  type Entry,
  LANE_BYTES_MAX,
  LANE_ITEMS_MAX,
  type Lane,
  laneIdOf,
  takeBatch,
} from "./commit-entries.ts";
import type { CommitQueue } from "./commit-queue.ts";

/** The pause before a lane's next attempt. It doubles each time the lane is still locked. */
export const PAUSE_MIN_MS = 3;

/** The lanes and the items waiting in them. commit-attempts.ts schedules their attempts. */
export interface CommitLanes<Item, Result> {
  readonly size: number;
  /** Lanes that have items in the queue or in a batch, or whose lock was just met by one. */
  readonly attempting: Set<Lane<Item, Result>>;
  /** Returns the lane that an item has to join; undefined if none. */
  find(key: string, sender: string): Lane<Item, Result> | undefined;
  findById(id: string): Lane<Item, Result> | undefined;
  list(): Iterable<Lane<Item, Result>>;
  /** Finds the lane of a conversation, or opens one and marks it as locked. */
  findOrOpen(entry: Entry<Item, Result>): Lane<Item, Result>;
  /**
   * Finds or opens the lane of a sender in a conversation. A new lane takes over the sender's items from the conversation's lane.
   */
  findOrOpenForSender(entry: Entry<Item, Result>): Lane<Item, Result>;
  addTo(lane: Lane<Item, Result>, entries: Entry<Item, Result>[]): void;
  takeFrom(lane: Lane<Item, Result>, itemsMax: number): Entry<Item, Result>[];
  extract(lane: Lane<Item, Result>, isExtracted: (entry: Entry<Item, Result>) => boolean): Entry<Item, Result>[];
  /** Puts entries back at the front of their lanes, followed by entries of these lanes that are still in the queue. */
  putBack(locked: Map<Lane<Item, Result>, Entry<Item, Result>[]>): void;
  /** Removes an item from its lane's attempt. */
  leaveAttempt(entry: Entry<Item, Result>): void;
  /** Removes a lane. The caller must handle its remaining items. */
  remove(lane: Lane<Item, Result>): void;
}

/** @param refuse called for items that don't fit in a full lane. */
export function createCommitLanes<Item, Result>(
  queue: CommitQueue<Entry<Item, Result>>,
  refuse: (entry: Entry<Item, Result>, error: unknown) => void,
): CommitLanes<Item, Result> {
  type AnyEntry = Entry<Item, Result>;
  type AnyLane = Lane<Item, Result>;
  /** The lanes by id: of whole conversations, and of single senders. */
  const lanes = new Map<string, AnyLane>();
  const attempting = new Set<AnyLane>();

  const find = (key: string, sender: string): AnyLane | undefined =>
    lanes.size === 0 ? undefined : (lanes.get(laneIdOf(key, sender)) ?? lanes.get(key));

  function open(id: string, mayWait: boolean): AnyLane {
    const lane: AnyLane = {
      id,
      // A new lane is handled like one whose attempt has just met a lock.
      state: "attempting",
      entries: [],
      bytes: 0,
      inFlight: 0,
      isLocked: true,
      openedAtMs: performance.now(),
      pauseMs: PAUSE_MIN_MS,
      timer: undefined,
      mayWait,
      hasWaited: false,
      isQueued: false,
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

  function extract(lane: AnyLane, isExtracted: (entry: AnyEntry) => boolean): AnyEntry[] {
    const extracted = lane.entries.filter(isExtracted);
    if (extracted.length > 0) {
      lane.entries = lane.entries.filter((entry) => !isExtracted(entry));
      for (const { bytes } of extracted) lane.bytes -= bytes;
    }
    return extracted;
  }

  function leaveAttempt(entry: AnyEntry): void {
    if (entry.lane) entry.lane.inFlight -= 1;
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
      const id = laneIdOf(key, sender);
      const known = lanes.get(id);
      if (known) return known;
      const lane = open(id, false);
      const ofConversation = lanes.get(key);
      if (ofConversation)
        addTo(
          lane,
          extract(ofConversation, (entry) => entry.sender === sender),
        );
      return lane;
    },

    addTo,
    extract,

    takeFrom(lane, itemsMax) {
      const entries = takeBatch(lane.entries, itemsMax);
      for (const { bytes } of entries) lane.bytes -= bytes;
      return entries;
    },

    putBack(locked) {
      const followersOf = (entry: AnyEntry): AnyEntry[] | undefined => {
        const lane = find(entry.key, entry.sender);
        return lane && locked.get(lane);
      };
      for (const entry of queue.extract((queued) => followersOf(queued) !== undefined)) followersOf(entry)?.push(entry);
      for (const [lane, entries] of locked) {
        for (const entry of entries) leaveAttempt(entry);
        lane.isLocked = true;
        const later = lane.entries;
        lane.entries = [];
        lane.bytes = 0;
        addTo(lane, entries);
        addTo(lane, later);
        while (lane.entries.length > LANE_ITEMS_MAX || lane.bytes > LANE_BYTES_MAX) {
          const entry = lane.entries.pop() as AnyEntry;
          lane.bytes -= entry.bytes;
          refuse(entry, createLaneFull());
        }
      }
    },

    leaveAttempt,
    remove: (lane) => void lanes.delete(lane.id),
  };
}
