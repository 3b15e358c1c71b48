import type { Database } from "../../db/client.ts";
import type { Hub } from "../../realtime/hub.ts";
import * as queries from "./departure-queries.ts";
import { createEvent } from "./events.ts";

/** Conversations that one transaction locks. */
export const DEPARTURE_CONVERSATIONS = 100;
/** Messages that one transaction takes away. */
export const ERASED_MESSAGES = 5_000;

/** How a user who is being deleted goes out of all their conversations (docs/decisions/0040). */
export function createDepartures({ database, hub }: { database: Database; hub: Hub }) {
  async function leave(userId: string, shownName: string, ids: string[]): Promise<void> {
    for (const row of await queries.leaveConversations(database, userId, shownName, ids)) {
      const event = createEvent(row.type, row.conversation_id, row, row.data);
      if (row.type === "member.removed") hub.expel(event, userId);
      else {
        hub.changeRole(row.conversation_id, row.data.user_id, row.data.role);
        hub.publish(event);
      }
    }
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
        if (erasure.is_erased) hub.expel(createEvent("conversation.deleted", id, erasure, { id }), null);
        // Somebody was added at the last moment.
        else if (erasure.is_shared) await leave(userId, shownName, [id]);
        yield;
      }
    },
  };
}

export type Departures = ReturnType<typeof createDepartures>;
