import type { Database } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { ChangeNote } from "./pending.ts";
import * as queries from "./queries.ts";
import { SENT_STATES_MAX, type SentStates } from "./sent-states.ts";

/** Maximum users per query. */
const USERS_MAX = 20;
const RETRY_MS = 1_000;

type Dependencies = {
  database: Database;
  log: Log;
  /** Returns the states that were sent to a user's inboxes; undefined if the user has no inbox on this instance. */
  findSentStates(userId: string): SentStates | undefined;
  markUser(conversationId: string, userId: string, note: ChangeNote): void;
};

/**
 * Compares the sent states with each user's newest conversations in the database: when a user's first inbox opens on
 * this instance, to load its initial state, and when messages between instances may have been lost.
 */
export function createResync({ database, log, findSentStates, markUser }: Dependencies) {
  const queued = new Set<string>();
  let isRunning = false;

  async function run(): Promise<void> {
    isRunning = true;
    while (queued.size > 0) {
      const batch = [...queued].slice(0, USERS_MAX);
      for (const userId of batch) queued.delete(userId);
      try {
        await compareUsers(batch.filter(findSentStates));
      } catch (error) {
        log.warn({ err: error }, "comparing inboxes with the conversation lists failed; retrying");
        for (const userId of batch) if (findSentStates(userId)) queued.add(userId);
        await Bun.sleep(RETRY_MS);
      }
    }
    isRunning = false;
  }

  async function compareUsers(userIds: string[]): Promise<void> {
    if (userIds.length === 0) return;
    const sentByUser = new Map(userIds.map((userId) => [userId, findSentStates(userId)]));
    const rows = await queries.listNewest(database, userIds, SENT_STATES_MAX);
    const byUser = new Map<string, typeof rows>(userIds.map((userId) => [userId, []]));
    for (const row of rows) byUser.get(row.user_id)?.push(row);
    for (const [userId, newest] of byUser) {
      const sent = findSentStates(userId);
      // The user closed and reopened the inbox meanwhile, and is queued again.
      if (!sent || sent !== sentByUser.get(userId)) continue;
      if (sent.isLoaded) mark(userId, sent, newest);
      else sent.load(newest);
    }
  }

  function mark(userId: string, sent: SentStates, newest: readonly (queries.InboxKey & queries.InboxSeqs)[]): void {
    const listed = new Set(newest.map(({ conversation_id }) => conversation_id));
    for (const row of newest) {
      if (!sent.isNew(row.conversation_id, row)) continue;
      const isAdded = sent.isComplete && !sent.find(row.conversation_id);
      markUser(row.conversation_id, userId, { isAdded });
    }
    // The user is no longer a member, or the conversation isn't among the newest.
    for (const id of sent.listConversations()) if (!listed.has(id)) markUser(id, userId, { isUncertain: true });
  }

  return {
    start(userIds: Iterable<string>): void {
      for (const userId of userIds) queued.add(userId);
      if (!isRunning && queued.size > 0) void run();
    },
  };
}
