import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import type { EventLog } from "../../events/log.ts";
import { createEvent } from "../../protocol/events.ts";
import * as queries from "./departure-queries.ts";

/** The limits per transaction. The number of members is limited too, because a new owner may have to be chosen from them. */
const BATCH_LIMITS = { conversationsMax: 50, membersMax: 500 };

/** Creates the service that removes a user from all conversations before the account is deleted (docs/decisions/0040). */
export function createDepartureService({ database, events }: { database: Database; events: EventLog }) {
  const publish = (rows: queries.DepartureEvent[]): void =>
    events.publish(rows.map((row) => createEvent(row.type, row.conversation_id, row, row.data)));

  return {
    /**
     * Removes a user from all conversations, and deletes the conversations that have no other members. The user must be disabled and have
     * no sessions. Yields after each step, which is a separate transaction. If it is interrupted, call it again.
     * @param replacementName the name that other members see instead of the user's.
     * @throws the database's lock timeout if a conversation stays locked.
     */
    async *leaveAll(userId: string, replacementName: string): AsyncGenerator<void> {
      let afterId: string | undefined;
      for (;;) {
        const ids = await queries.listMemberships(database, userId, afterId, BATCH_LIMITS);
        if (ids.length === 0) break;
        const leave = (sql: Sql) => queries.leaveConversations(sql, userId, replacementName, ids);
        publish(await withTransaction(database, leave));
        afterId = ids.at(-1);
        yield;
      }
      // Leaves the remaining conversations: those that were locked, and those that the user was added to in the meantime.
      const oneConversationLimits = { ...BATCH_LIMITS, conversationsMax: 1 };
      for (;;) {
        const [id] = await queries.listMemberships(database, userId, undefined, oneConversationLimits);
        if (id === undefined) return;
        publish(
          await events.write(id, ({ sql }) => queries.leaveConversations(sql, userId, replacementName, [id], true)),
        );
        yield;
      }
    },
  };
}

export type DepartureService = ReturnType<typeof createDepartureService>;
