import type { Database } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { ChangeDetails } from "./pending.ts";
import * as queries from "./queries.ts";
import { SENT_STATES_MAX, type SentStates } from "./sent-states.ts";

/** Maximum users per query. */
const USERS_PER_QUERY_MAX = 20;
const RETRY_DELAY_MS = 1_000;

type Dependencies = {
  database: Database;
  log: Log;
  /** Returns the states that were sent to a user's inboxes; undefined if the user has no inbox on this instance. */
  findSentStates(userId: string): SentStates | undefined;
  markUser(conversationId: string, userId: string, details: ChangeDetails): void;
};

/**
 * Compares the sent states with each user's newest conversations in the database. This happens when a user's first inbox
 * subscription on this instance starts, to load its initial state, and when messages between instances may have been lost.
 */
export function createResync({ database, log, findSentStates, markUser }: Dependencies) {
  const queuedUserIds = new Set<string>();
  let isRunning = false;

  async function run(): Promise<void> {
    isRunning = true;
    while (queuedUserIds.size > 0) {
      const batch = [...queuedUserIds].slice(0, USERS_PER_QUERY_MAX);
      for (const userId of batch) queuedUserIds.delete(userId);
      try {
        await compareUsers(batch.filter(findSentStates));
      } catch (error) {
        log.warn({ err: error }, "comparing inboxes with the conversation lists failed; retrying");
        for (const userId of batch) if (findSentStates(userId)) queuedUserIds.add(userId);
        await Bun.sleep(RETRY_DELAY_MS);
      }
    }
    isRunning = false;
  }

  async function compareUsers(userIds: string[]): Promise<void> {
    if (userIds.length === 0) return;
    const statesBefore = new Map(userIds.map((userId) => [userId, findSentStates(userId)]));
    const rows = await queries.listNewest(database, userIds, SENT_STATES_MAX);
    const rowsByUser = new Map<string, typeof rows>(userIds.map((userId) => [userId, []]));
    for (const row of rows) rowsByUser.get(row.user_id)?.push(row);
    for (const [userId, newest] of rowsByUser) {
      const sent = findSentStates(userId);
      // If the user reopened the inbox during the query, they are already queued again.
      if (!sent || sent !== statesBefore.get(userId)) continue;
      if (sent.isLoaded) markChanges(userId, sent, newest);
      else sent.load(newest);
    }
  }

  function markChanges(
    userId: string,
    sent: SentStates,
    newest: readonly (queries.InboxKey & queries.InboxSeqs)[],
  ): void {
    const newestIds = new Set(newest.map(({ conversation_id }) => conversation_id));
    for (const row of newest) {
      if (!sent.isNew(row.conversation_id, row)) continue;
      const isAdded = sent.isComplete && !sent.find(row.conversation_id);
      markUser(row.conversation_id, userId, { isAdded });
    }
    // The user is no longer a member of these conversations, or they aren't among the newest.
    for (const id of sent.listConversations()) if (!newestIds.has(id)) markUser(id, userId, { isUncertain: true });
  }

  return {
    start(userIds: Iterable<string>): void {
      for (const userId of userIds) queuedUserIds.add(userId);
      if (!isRunning && queuedUserIds.size > 0) void run();
    },
  };
}
