import type { InboxKey } from "./queries.ts";

/** Minimum interval between two frames about the same conversation to the same inbox. */
export const FRAME_INTERVAL_MS = 1_000;

/** Details of a pending change. */
export type ChangeDetails = {
  /** Whether the conversation is new to the user. */
  isAdded?: boolean;
  /** The event that removed the user; null if the user was added again later. */
  removed?: { seq: number; at: string } | null;
  /** Whether to send a frame only if the state has changed since the last frame. */
  onlyIfChanged?: boolean;
};

export type PendingFrame = InboxKey & { details: ChangeDetails };

type PendingEntry = {
  /** Whether there is a change for all members that hasn't been assigned to `pendingUsers` yet. */
  isPendingForAll: boolean;
  /** The earliest time to assign that change. */
  allDueAtMs: number;
  /** The users with a pending frame. */
  pendingUsers: Map<string, ChangeDetails>;
  /** The time of the last frame, by user. */
  sentAtMs: Map<string, number>;
  /** When the next frame may be sent, or the entry can be deleted. */
  dueAtMs: number;
};

/**
 * Pending frames for the inboxes of an instance: at most one per conversation and user, regardless of the number of events. An
 * event only updates its conversation's entry. The members are determined when the entry is due. Times are milliseconds of any
 * monotonic clock.
 */
export class PendingFrames {
  readonly #entries = new Map<string, PendingEntry>();
  /** A lower bound for the due times of all entries. */
  #dueAtMs = Number.POSITIVE_INFINITY;

  /** The number of conversations with a pending frame, or with a frame that was sent within the last second. */
  get size(): number {
    return this.#entries.size;
  }

  get dueAtMs(): number {
    return this.#dueAtMs;
  }

  queueFramesForAll(conversationId: string, nowMs: number): void {
    const entry = this.#getOrCreate(conversationId);
    entry.isPendingForAll = true;
    this.#updateDueAt(entry, Math.max(entry.allDueAtMs, nowMs));
  }

  queueFrame(conversationId: string, userId: string, details: ChangeDetails, nowMs: number): void {
    const entry = this.#getOrCreate(conversationId);
    const previousDetails = entry.pendingUsers.get(userId);
    entry.pendingUsers.set(userId, previousDetails ? mergeDetails(previousDetails, details) : details);
    this.#updateDueAt(entry, Math.max(computeNextFrameAtMs(entry, userId), nowMs));
  }

  /** Returns whether a `removed` frame for the user is pending. */
  hasPendingRemoval(conversationId: string, userId: string): boolean {
    return Boolean(this.#entries.get(conversationId)?.pendingUsers.get(userId)?.removed);
  }

  /** Lists due conversations whose members must be loaded first. */
  listDueWithoutMembers(nowMs: number, hasMembers: (conversationId: string) => boolean, idsMax: number): string[] {
    const ids: string[] = [];
    if (this.#dueAtMs > nowMs) return ids;
    for (const [id, entry] of this.#entries) {
      if (ids.length >= idsMax) break;
      if (entry.isPendingForAll && entry.allDueAtMs <= nowMs && !hasMembers(id)) ids.push(id);
    }
    return ids;
  }

  /**
   * Removes and returns up to `framesMax` due frames.
   * @param findUsers returns the members of a conversation who have an inbox on this instance; undefined if its members
   * aren't loaded yet.
   */
  removeDueFrames(
    nowMs: number,
    findUsers: (conversationId: string) => string[] | undefined,
    framesMax: number,
  ): PendingFrame[] {
    const frames: PendingFrame[] = [];
    if (this.#dueAtMs > nowMs) return frames;
    this.#dueAtMs = Number.POSITIVE_INFINITY;
    for (const [id, entry] of this.#entries) {
      if (entry.dueAtMs <= nowMs) {
        if (entry.isPendingForAll && entry.allDueAtMs <= nowMs) assignToUsers(entry, findUsers(id), nowMs);
        moveDueFrames(id, entry, frames, nowMs, framesMax);
        if (canBeDeleted(entry, nowMs)) this.#entries.delete(id);
        else entry.dueAtMs = computeDueAtMs(entry);
      }
      if (this.#entries.has(id)) this.#dueAtMs = Math.min(this.#dueAtMs, entry.dueAtMs);
    }
    return frames;
  }

  /** Records that a frame was sent, so that the next frame waits for FRAME_INTERVAL_MS. */
  recordSent({ conversation_id, user_id }: InboxKey, nowMs: number): void {
    const entry = this.#getOrCreate(conversation_id);
    entry.sentAtMs.set(user_id, nowMs);
    this.#updateDueAt(entry, nowMs + FRAME_INTERVAL_MS);
  }

  /** Recomputes due times after a user has opened an inbox, because some conversations may be due earlier for that user. */
  recomputeDueTimes(nowMs: number): void {
    for (const entry of this.#entries.values()) {
      entry.allDueAtMs = 0;
      if (entry.isPendingForAll) this.#updateDueAt(entry, nowMs);
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#dueAtMs = Number.POSITIVE_INFINITY;
  }

  #getOrCreate(conversationId: string): PendingEntry {
    const existingEntry = this.#entries.get(conversationId);
    if (existingEntry) return existingEntry;
    const dueAtMs = Number.POSITIVE_INFINITY;
    const entry: PendingEntry = {
      isPendingForAll: false,
      allDueAtMs: 0,
      pendingUsers: new Map(),
      sentAtMs: new Map(),
      dueAtMs,
    };
    this.#entries.set(conversationId, entry);
    return entry;
  }

  #updateDueAt(entry: PendingEntry, atMs: number): void {
    if (atMs < entry.dueAtMs) entry.dueAtMs = atMs;
    if (entry.dueAtMs < this.#dueAtMs) this.#dueAtMs = entry.dueAtMs;
  }
}

/** Merges the details of two changes. If the user was removed and then added, only `isAdded` is kept. */
function mergeDetails(earlier: ChangeDetails, later: ChangeDetails): ChangeDetails {
  const removed = later.isAdded ? null : (later.removed ?? earlier.removed ?? null);
  return {
    isAdded: later.isAdded || (earlier.isAdded && !later.removed) || false,
    removed,
    onlyIfChanged: Boolean(earlier.onlyIfChanged && later.onlyIfChanged),
  };
}

const computeNextFrameAtMs = ({ sentAtMs }: PendingEntry, userId: string): number => {
  const sentMs = sentAtMs.get(userId);
  return sentMs === undefined ? 0 : sentMs + FRAME_INTERVAL_MS;
};

/** Assigns the change for all members to these users. If `userIds` is undefined, the change stays pending until the members are loaded. */
function assignToUsers(entry: PendingEntry, userIds: string[] | undefined, nowMs: number): void {
  if (!userIds) return;
  entry.isPendingForAll = false;
  entry.allDueAtMs = nowMs + FRAME_INTERVAL_MS;
  for (const userId of userIds) entry.pendingUsers.set(userId, mergeDetails(entry.pendingUsers.get(userId) ?? {}, {}));
}

function moveDueFrames(
  id: string,
  entry: PendingEntry,
  frames: PendingFrame[],
  nowMs: number,
  framesMax: number,
): void {
  for (const [userId, details] of entry.pendingUsers) {
    if (frames.length >= framesMax) return;
    if (computeNextFrameAtMs(entry, userId) > nowMs) continue;
    entry.pendingUsers.delete(userId);
    frames.push({ conversation_id: id, user_id: userId, details });
  }
}

function canBeDeleted({ isPendingForAll, allDueAtMs, pendingUsers, sentAtMs }: PendingEntry, nowMs: number): boolean {
  if (isPendingForAll || pendingUsers.size > 0 || allDueAtMs > nowMs) return false;
  for (const sentMs of sentAtMs.values()) if (sentMs + FRAME_INTERVAL_MS > nowMs) return false;
  return true;
}

function computeDueAtMs(entry: PendingEntry): number {
  let dueAtMs = entry.allDueAtMs;
  if (!entry.isPendingForAll && entry.pendingUsers.size === 0) {
    // No frame is pending, so the entry can be deleted when the interval after the last frame has passed.
    for (const sentMs of entry.sentAtMs.values()) dueAtMs = Math.max(dueAtMs, sentMs + FRAME_INTERVAL_MS);
    return dueAtMs;
  }
  if (!entry.isPendingForAll) dueAtMs = Number.POSITIVE_INFINITY;
  for (const userId of entry.pendingUsers.keys()) dueAtMs = Math.min(dueAtMs, computeNextFrameAtMs(entry, userId));
  return dueAtMs;
}
