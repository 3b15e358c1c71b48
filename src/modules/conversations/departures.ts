import type { Database } from "../../db/client.ts";
import type { EventLog } from "../../events/log.ts";
import { createEvent } from "../../protocol/events.ts";
import * as queries from "./departure-queries.ts";

/** Conversations that one transaction locks. */
export const DEPARTURE_CONVERSATIONS = 100;
/** Messages that one transaction takes away. */
export const ERASED_MESSAGES = 5_000;

/** How a user who is being deleted goes out of all their conversations (docs/decisions/0040). */
export function createDepartures({ database, events }: { database: Database; events: EventLog }) {
  async function leave(userId: string, shownName: string, ids: string[]): Promise<void> {
    const rows = await queries.leaveConversations(database, userId, shownName, ids);
    events.publish(rows.map((row) => createEvent(row.type, row.conversation_id, row, row.data)));
  }

  return {
    /**
     * Ends every membership of a user who can start nothing any more: disabled, sessions ended. Each step is a
     * transaction of its own and of bounded size, and yields after it; what is interrupted is gone on with by calling it
     * again. Conversations of the user alone are deleted.
     * @param shownName what others are told in place of the user's name.
     */
    async *leaveAll(userId: string, shownName: string): AsyncGenerator<void> {
      let after: string | undefined;
      for (;;) {
        const ids = await queries.listMemberships(database, userId, after, DEPARTURE_CONVERSATIONS);
        if (ids.length === 0) break;
        await leave(userId, shownName, ids);
        after = ids.at(-1);
        yield;
      }
      for (;;) {
        const [id] = await queries.listMemberships(database, userId, undefined, 1);
        if (id === undefined) return;
        const erasure = await queries.eraseConversation(database, userId, id, ERASED_MESSAGES);
        if (erasure.is_erased) events.publish([createEvent("conversation.deleted", id, erasure, { id })]);
        // Somebody was added at the last moment.
        else if (erasure.is_shared) await leave(userId, shownName, [id]);
        yield;
      }
    },
  };
}

export type Departures = ReturnType<typeof createDepartures>;
