import type { InboxKey } from "./queries.ts";

/** Minimum time between two frames about one conversation to one inbox. */
export const FRAME_INTERVAL_MS = 1_000;

/** Details of a pending change. */
export type ChangeNote = {
  /** Whether the conversation is new to the user. */
  isAdded?: boolean;
  /** The event that ended the membership; null if the user was added again later. */
  removed?: { seq: number; at: string } | null;
  /** Whether to send a frame only if the state differs from that in the last frame. */
  isUncertain?: boolean;
};

export type PendingFrame = InboxKey & { details: ChangeNote };

type Entry = {
  /** Whether there is a change for all members that hasn't been distributed to them yet. */
  isForAllMembers: boolean;
  /** The earliest time to distribute it. */
  allDueAtMs: number;
  /** Users with a pending frame. */
  users: Map<string, ChangeNote>;
  sentAtMs: Map<string, number>;
  /** When the next frame may be sent, or the entry can be dropped. */
  dueAtMs: number;
};

/**
 * Pending frames for the inboxes of an instance: at most one per conversation and user, no matter how many events
 * occur. An event costs one map access here; it is distributed to the members when it is due. Times are milliseconds of
 * any monotonic clock.
 */
export class Pending {
  readonly #entries = new Map<string, Entry>();
  /** A lower bound of the next time at which something is due. */
  #dueAtMs = Number.POSITIVE_INFINITY;

  /** Conversations with a pending frame, or with one sent within the last second. */
  get size(): number {
    return this.#entries.size;
  }

  get dueAtMs(): number {
    return this.#dueAtMs;
  }

  markAll(conversationId: string, nowMs: number): void {
    const entry = this.#getOrCreate(conversationId);
    entry.isForAllMembers = true;
    this.#updateDueAt(entry, Math.max(entry.allDueAtMs, nowMs));
  }

  markUser(conversationId: string, userId: string, details: ChangeNote, nowMs: number): void {
    const entry = this.#getOrCreate(conversationId);
    const before = entry.users.get(userId);
    entry.users.set(userId, before ? mergeNotes(before, details) : details);
    this.#updateDueAt(entry, Math.max(findNextAllowedMs(entry, userId), nowMs));
  }

  /** Whether the user's membership has ended and the frame about it is still pending. */
  isRemoved(conversationId: string, userId: string): boolean {
    return Boolean(this.#entries.get(conversationId)?.users.get(userId)?.removed);
  }

  /** Lists due conversations whose members must be loaded first. */
  listUnloaded(nowMs: number, isKnown: (conversationId: string) => boolean, max: number): string[] {
    const ids: string[] = [];
    if (this.#dueAtMs > nowMs) return ids;
    for (const [id, entry] of this.#entries) {
      if (ids.length >= max) break;
      if (entry.isForAllMembers && entry.allDueAtMs <= nowMs && !isKnown(id)) ids.push(id);
    }
    return ids;
  }

  /**
   * Removes and returns up to `max` due frames.
   * @param findUsers returns the members of a conversation who have an inbox on this instance; undefined if its members
   * aren't loaded yet.
   */
  takeDue(nowMs: number, findUsers: (conversationId: string) => string[] | undefined, max: number): PendingFrame[] {
    const frames: PendingFrame[] = [];
    if (this.#dueAtMs > nowMs) return frames;
    this.#dueAtMs = Number.POSITIVE_INFINITY;
    for (const [id, entry] of this.#entries) {
      if (entry.dueAtMs <= nowMs) {
        if (entry.isForAllMembers && entry.allDueAtMs <= nowMs) assignToUsers(entry, findUsers(id), nowMs);
        moveDueFrames(id, entry, frames, nowMs, max);
        if (isIdle(entry, nowMs)) this.#entries.delete(id);
        else entry.dueAtMs = computeDueAt(entry);
      }
      if (this.#entries.has(id)) this.#dueAtMs = Math.min(this.#dueAtMs, entry.dueAtMs);
    }
    return frames;
  }

  /** Records that a frame was sent, so that the next one waits. */
  markSent({ conversation_id, user_id }: InboxKey, nowMs: number): void {
    const entry = this.#getOrCreate(conversation_id);
    entry.sentAtMs.set(user_id, nowMs);
    this.#updateDueAt(entry, nowMs + FRAME_INTERVAL_MS);
  }

  /**
   * Recomputes due times after a user opened an inbox: a conversation may be due for them earlier than for the others.
   */
  reconsider(nowMs: number): void {
    for (const entry of this.#entries.values()) {
      entry.allDueAtMs = 0;
      if (entry.isForAllMembers) this.#updateDueAt(entry, nowMs);
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#dueAtMs = Number.POSITIVE_INFINITY;
  }

  #getOrCreate(conversationId: string): Entry {
    const existing = this.#entries.get(conversationId);
    if (existing) return existing;
    const dueAtMs = Number.POSITIVE_INFINITY;
    const entry: Entry = { isForAllMembers: false, allDueAtMs: 0, users: new Map(), sentAtMs: new Map(), dueAtMs };
    this.#entries.set(conversationId, entry);
    return entry;
  }

  #updateDueAt(entry: Entry, atMs: number): void {
    if (atMs < entry.dueAtMs) entry.dueAtMs = atMs;
    if (entry.dueAtMs < this.#dueAtMs) this.#dueAtMs = entry.dueAtMs;
  }
}

/** Merges two notes. The later one wins: if the user was removed and then added, `added` remains. */
function mergeNotes(before: ChangeNote, after: ChangeNote): ChangeNote {
  const removed = after.isAdded ? null : (after.removed ?? before.removed ?? null);
  return {
    isAdded: after.isAdded || (before.isAdded && !after.removed) || false,
    removed,
    isUncertain: Boolean(before.isUncertain && after.isUncertain),
  };
}

const findNextAllowedMs = ({ sentAtMs }: Entry, userId: string): number => {
  const sentMs = sentAtMs.get(userId);
  return sentMs === undefined ? 0 : sentMs + FRAME_INTERVAL_MS;
};

function assignToUsers(entry: Entry, users: string[] | undefined, nowMs: number): void {
  // The members are read first; the change stays pending.
  if (!users) return;
  entry.isForAllMembers = false;
  entry.allDueAtMs = nowMs + FRAME_INTERVAL_MS;
  for (const userId of users) entry.users.set(userId, mergeNotes(entry.users.get(userId) ?? {}, {}));
}

function moveDueFrames(id: string, entry: Entry, frames: PendingFrame[], nowMs: number, max: number): void {
  for (const [userId, details] of entry.users) {
    if (frames.length >= max) return;
    if (findNextAllowedMs(entry, userId) > nowMs) continue;
    entry.users.delete(userId);
    frames.push({ conversation_id: id, user_id: userId, details });
  }
}

function isIdle({ isForAllMembers, allDueAtMs, users, sentAtMs }: Entry, nowMs: number): boolean {
  if (isForAllMembers || users.size > 0 || allDueAtMs > nowMs) return false;
  for (const sentMs of sentAtMs.values()) if (sentMs + FRAME_INTERVAL_MS > nowMs) return false;
  return true;
}

function computeDueAt(entry: Entry): number {
  let dueAtMs = entry.allDueAtMs;
  if (!entry.isForAllMembers && entry.users.size === 0) {
    // No frame is pending: drop the entry when the interval after the last frame is over.
    for (const sentMs of entry.sentAtMs.values()) dueAtMs = Math.max(dueAtMs, sentMs + FRAME_INTERVAL_MS);
    return dueAtMs;
  }
  if (!entry.isForAllMembers) dueAtMs = Number.POSITIVE_INFINITY;
  for (const userId of entry.users.keys()) dueAtMs = Math.min(dueAtMs, findNextAllowedMs(entry, userId));
  return dueAtMs;
}
