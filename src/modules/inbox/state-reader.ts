import type { Database } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import { createChangeFrame, createRemovedFrame } from "./frames.ts";
import type { InboxUsers } from "./inbox-users.ts";
import type { MemberCache } from "./members.ts";
import type { PendingFrame, PendingFrames } from "./pending.ts";
import * as queries from "./queries.ts";

/** Minimum interval between two reads from the database. */
const READ_INTERVAL_MS = 50;
/** Delay after a failed read. */
const RETRY_DELAY_MS = 1_000;
/** Maximum number of conversations per query that reads members. */
const MEMBERS_CONVERSATIONS_MAX = 500;
/** Maximum number of rows per query that reads members: at least twice the members of the largest conversation. */
const MEMBERS_ROWS_MAX = 20_000;
/** Maximum number of frames per query that reads states. */
const FRAMES_PER_READ_MAX = 1_000;

type Dependencies = {
  database: Database;
  log: Log;
  users: InboxUsers;
  memberCache: MemberCache;
  pendingFrames: PendingFrames;
};

const now = () => performance.now();

/** Creates a reader that reads the states for the due frames of all inboxes in one query, and sends the frames. */
export function createStateReader({ database, log, users, memberCache, pendingFrames }: Dependencies) {
  let readTimer: Timer | undefined;
  let readTimerAtMs = Number.POSITIVE_INFINITY;
  let isReading = false;
  let nextReadAtMs = 0;

  function scheduleRead(): void {
    if (isReading || users.size === 0) return;
    const atMs = Math.max(pendingFrames.dueAtMs, nextReadAtMs);
    if (atMs >= readTimerAtMs || atMs === Number.POSITIVE_INFINITY) return;
    clearTimeout(readTimer);
    readTimerAtMs = atMs;
    readTimer = setTimeout(() => void readAndSend(), Math.max(0, Math.ceil(atMs - now())));
  }

  async function readAndSend(): Promise<void> {
    readTimerAtMs = Number.POSITIVE_INFINITY;
    isReading = true;
    nextReadAtMs = now() + READ_INTERVAL_MS;
    try {
      await readMembers();
      await sendFrames(pendingFrames.removeDueFrames(now(), findUsers, FRAMES_PER_READ_MAX));
    } catch (error) {
      log.warn({ err: error }, "reading inbox states failed; retrying");
      nextReadAtMs = now() + RETRY_DELAY_MS;
    } finally {
      isReading = false;
      scheduleRead();
    }
  }

  async function readMembers(): Promise<void> {
    const hasMembers = (id: string) => memberCache.get(id) !== undefined;
    const unloadedIds = pendingFrames.listDueWithoutMembers(now(), hasMembers, MEMBERS_CONVERSATIONS_MAX);
    if (unloadedIds.length === 0) return;
    const listMembers = (ids: readonly string[], limit: number) => queries.listInboxMembers(database, ids, limit);
    await memberCache.load(unloadedIds, listMembers, MEMBERS_ROWS_MAX);
  }

  /** Returns the members with an inbox on this instance; undefined if the members haven't been loaded. */
  function findUsers(conversationId: string): string[] | undefined {
    const memberIds = memberCache.get(conversationId);
    if (!memberIds) return undefined;
    // Iterates over the smaller set.
    if (memberIds.size <= users.size) return [...memberIds].filter((userId) => users.has(userId));
    return users.listIds().filter((userId) => memberIds.has(userId));
  }

  async function sendFrames(frames: PendingFrame[]): Promise<void> {
    if (frames.length === 0) return;
    let states: queries.InboxState[];
    try {
      states = await queries.listStates(database, frames);
    } catch (error) {
      for (const { conversation_id, user_id, details } of frames)
        pendingFrames.queueFrame(conversation_id, user_id, details, now());
      throw error;
    }
    const statesByKey = new Map(states.map((state) => [createKey(state), state]));
    for (const pendingFrame of frames) sendFrame(pendingFrame, statesByKey.get(createKey(pendingFrame)));
  }

  function sendFrame(pendingFrame: PendingFrame, state: queries.InboxState | undefined): void {
    const { conversation_id, user_id, details } = pendingFrame;
    const sentStates = users.findSentStates(user_id);
    if (!sentStates) return;
    // If the user was removed while the state was being read, the next frame is `removed`.
    if (pendingFrames.hasPendingRemoval(conversation_id, user_id)) return;
    if (state && details.onlyIfChanged && !sentStates.isNew(conversation_id, state)) return;
    const previousState = sentStates.find(conversation_id);
    if (state) sentStates.set(conversation_id, state);
    else sentStates.delete(conversation_id);
    pendingFrames.recordSent(pendingFrame, now());
    const frame = state
      ? createChangeFrame(state, details)
      : createRemovedFrame(pendingFrame, previousState?.last_seq ?? 0);
    users.send(user_id, JSON.stringify(frame));
  }

  return {
    /** Schedules the next read. Call this after each change to `pendingFrames`. */
    scheduleRead,

    stop(): void {
      clearTimeout(readTimer);
      readTimerAtMs = Number.POSITIVE_INFINITY;
    },
  };
}

const createKey = ({ conversation_id, user_id }: queries.InboxKey): string => `${conversation_id}/${user_id}`;
