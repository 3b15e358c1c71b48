import type { Database } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { ChangeDetails } from "./pending.ts";
import * as queries from "./queries.ts";
import { SENT_STATES_MAX, type SentStates } from "./sent-states.ts";

/** Maximum number of users per query. */
const USERS_PER_QUERY_MAX = 20;
const RETRY_DELAY_MS = 1_000;

type Dependencies = {
  database: Database;
  log: Log;
  /** Returns the states that were sent to a user's inboxes; undefined if the user has no inbox on this instance. */
  findSentStates(userId: string): SentStates | undefined;
  queueFrame(conversationId: string, userId: string, details: ChangeDetails): void;
};

/**
 * Creates a resync, which compares the states that were sent to users with their newest conversations in the database. It is needed
 * in two cases: when a user opens their first inbox on this instance, to load the initial states, and when messages between
 * instances may have been lost.
 */
export function createResync({ database, log, findSentStates, queueFrame }: Dependencies) {
  const queuedUserIds = new Set<string>();
  let isRunning = false;

  async function compareQueuedUsers(): Promise<void> {
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
    const rows = await queries.listNewestConversations(database, userIds, SENT_STATES_MAX);
    const rowsByUser = new Map<string, typeof rows>(userIds.map((userId) => [userId, []]));
    for (const row of rows) rowsByUser.get(row.user_id)?.push(row);
    for (const [userId, newestRows] of rowsByUser) {
      const sentStates = findSentStates(userId);
      // If the user reopened the inbox during the query, they are already queued again.
      if (!sentStates || sentStates !== statesBefore.get(userId)) continue;
      if (sentStates.isLoaded) queueChangedFrames(userId, sentStates, newestRows);
      else sentStates.load(newestRows);
    }
  }

  function queueChangedFrames(
    userId: string,
    sentStates: SentStates,
    newestRows: readonly (queries.InboxKey & queries.InboxSeqs)[],
  ): void {
    const newestIds = new Set(newestRows.map(({ conversation_id }) => conversation_id));
    for (const row of newestRows) {
      if (!sentStates.isNew(row.conversation_id, row)) continue;
      const isAdded = sentStates.isComplete && !sentStates.find(row.conversation_id);
      queueFrame(row.conversation_id, userId, { isAdded });
    }
    // The user is no longer a member of these conversations, or they aren't among the newest.
    for (const id of sentStates.listConversations())
      if (!newestIds.has(id)) queueFrame(id, userId, { onlyIfChanged: true });
  }

  return {
    /** Queues users for comparison. */
    queueUsers(userIds: Iterable<string>): void {
      for (const userId of userIds) queuedUserIds.add(userId);
      if (!isRunning && queuedUserIds.size > 0) void compareQueuedUsers();
    },
  };
}
