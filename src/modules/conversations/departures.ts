import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import type { EventLog } from "../../events/log.ts";
import { createEvent } from "../../protocol/events.ts";
import * as queries from "./departure-queries.ts";

/** The limits per transaction. The conversations' members are limited too, because a new owner may have to be chosen from them. */
const BATCH = { conversationsMax: 50, membersMax: 500 };

/** Creates the service that removes a user who is being deleted from all conversations (docs/decisions/0040). */
export function createDepartures({ database, events }: { database: Database; events: EventLog }) {
  const publish = (rows: queries.DepartureEvent[]): void =>
    events.publish(rows.map((row) => createEvent(row.type, row.conversation_id, row, row.data)));

  return {
    /**
     * Removes a user, who must be disabled and have no sessions, from all conversations, and deletes those without other members.
     * Yields after each step, which is a separate transaction. If it is interrupted, call it again.
     * @param replacementName the name that other members see instead of the user's.
     * @throws the database's lock timeout if a conversation stays locked.
     */
    async *leaveAll(userId: string, replacementName: string): AsyncGenerator<void> {
      let after: string | undefined;
      for (;;) {
        const ids = await queries.listMemberships(database, userId, after, BATCH);
        if (ids.length === 0) break;
        const leave = (sql: Sql) => queries.leaveConversations(sql, userId, replacementName, ids);
        publish(await withTransaction(database, leave));
        after = ids.at(-1);
        yield;
      }
      // Leaves the remaining conversations: those that were locked, and those that the user was added to in the meantime.
      for (;;) {
        const [id] = await queries.listMemberships(database, userId, undefined, { ...BATCH, conversationsMax: 1 });
        if (id === undefined) return;
        publish(
          await events.write(id, ({ sql }) => queries.leaveConversations(sql, userId, replacementName, [id], true)),
        );
        yield;
      }
    },
  };
}

export type Departures = ReturnType<typeof createDepartures>;
