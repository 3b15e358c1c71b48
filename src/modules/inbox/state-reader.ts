import type { Database } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import { createFrame, createRemovedFrame } from "./frames.ts";
import type { InboxUsers } from "./inbox-users.ts";
import type { MemberCache } from "./members.ts";
import type { PendingFrame, PendingFrames } from "./pending.ts";
import * as queries from "./queries.ts";

/** Minimum interval between two reads from the database. */
const READ_INTERVAL_MS = 50;
/** Delay after a failed read. */
const RETRY_DELAY_MS = 1_000;
/** Maximum conversations per query that reads members. */
const MEMBERS_CONVERSATIONS_MAX = 500;
/** Maximum rows that this query reads: at least twice the members of the largest conversation. */
const MEMBERS_ROWS_MAX = 20_000;
/** Maximum frames per query that reads states. */
const FRAMES_PER_READ_MAX = 1_000;

type Dependencies = { database: Database; log: Log; users: InboxUsers; members: MemberCache; pending: PendingFrames };

const now = () => performance.now();

/** Creates a reader that reads the states for the due frames of all inboxes in one query, and sends the frames. */
export function createStateReader({ database, log, users, members, pending }: Dependencies) {
  let timer: Timer | undefined;
  let timerAtMs = Number.POSITIVE_INFINITY;
  let isReading = false;
  let nextReadAtMs = 0;

  function schedule(): void {
    if (isReading || users.size === 0) return;
    const atMs = Math.max(pending.dueAtMs, nextReadAtMs);
    if (atMs >= timerAtMs || atMs === Number.POSITIVE_INFINITY) return;
    clearTimeout(timer);
    timerAtMs = atMs;
    timer = setTimeout(() => void readAndSend(), Math.max(0, Math.ceil(atMs - now())));
  }

  async function readAndSend(): Promise<void> {
    timerAtMs = Number.POSITIVE_INFINITY;
    isReading = true;
    nextReadAtMs = now() + READ_INTERVAL_MS;
    try {
      await readMembers();
      await sendFrames(pending.takeDue(now(), findUsers, FRAMES_PER_READ_MAX));
    } catch (error) {
      log.warn({ err: error }, "reading inbox states failed; retrying");
      nextReadAtMs = now() + RETRY_DELAY_MS;
    } finally {
      isReading = false;
      schedule();
    }
  }

  async function readMembers(): Promise<void> {
    const hasMembers = (id: string) => members.get(id) !== undefined;
    const unloadedIds = pending.listUnloaded(now(), hasMembers, MEMBERS_CONVERSATIONS_MAX);
    if (unloadedIds.length === 0) return;
    const listMembers = (ids: readonly string[], limit: number) => queries.listInboxMembers(database, ids, limit);
    await members.load(unloadedIds, listMembers, MEMBERS_ROWS_MAX);
  }

  /** Returns the members with an inbox on this instance; undefined if the members haven't been loaded. */
  function findUsers(conversationId: string): string[] | undefined {
    const memberIds = members.get(conversationId);
    if (!memberIds) return undefined;
    // Iterates over the smaller set.
    if (memberIds.size <= users.size) return [...memberIds].filter((userId) => users.has(userId));
    return users.list().filter((userId) => memberIds.has(userId));
  }

  async function sendFrames(frames: PendingFrame[]): Promise<void> {
    if (frames.length === 0) return;
    let states: queries.InboxState[];
    try {
      states = await queries.listStates(database, frames);
    } catch (error) {
      for (const { conversation_id, user_id, details } of frames)
        pending.markUser(conversation_id, user_id, details, now());
      throw error;
    }
    const byKey = new Map(states.map((state) => [createKey(state), state]));
    for (const pendingFrame of frames) sendFrame(pendingFrame, byKey.get(createKey(pendingFrame)));
  }

  function sendFrame(pendingFrame: PendingFrame, state: queries.InboxState | undefined): void {
    const { conversation_id, user_id, details } = pendingFrame;
    const sent = users.findSentStates(user_id);
    if (!sent) return;
    // If the user was removed while the state was being read, the next frame is `removed`.
    if (pending.isRemoved(conversation_id, user_id)) return;
    if (state && details.isUncertain && !sent.isNew(conversation_id, state)) return;
    const previous = sent.find(conversation_id);
    if (state) sent.set(conversation_id, state);
    else sent.delete(conversation_id);
    pending.markSent(pendingFrame, now());
    const frame = state ? createFrame(state, details) : createRemovedFrame(pendingFrame, previous?.last_seq ?? 0);
    users.send(user_id, JSON.stringify(frame));
  }

  return {
    /** Schedules the next read. Call this after each change to `pending`. */
    schedule,

    stop(): void {
      clearTimeout(timer);
      timerAtMs = Number.POSITIVE_INFINITY;
    },
  };
}

const createKey = ({ conversation_id, user_id }: queries.InboxKey): string => `${conversation_id}/${user_id}`;
