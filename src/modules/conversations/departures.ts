import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import type { EventLog } from "../../events/log.ts";
import { createEvent } from "../../protocol/events.ts";
import * as queries from "./departure-queries.ts";

/** Conversations locked per transaction, and their members in total, because new owners are chosen among these. */
const BATCH = { rows: 50, members: 500 };

/** Removes a user who is being deleted from all their conversations (docs/decisions/0040). */
export function createDepartures({ database, events }: { database: Database; events: EventLog }) {
  const publish = (rows: queries.DepartureEvent[]): void =>
    events.publish(rows.map((row) => createEvent(row.type, row.conversation_id, row, row.data)));

  return {
    /**
     * Ends every membership of a user who is disabled and has no sessions. Deletes conversations without other members. Each
     * step is its own bounded transaction and yields afterwards; if interrupted, call it again.
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
      // Conversations that were locked, and those that the user was just added to.
      for (;;) {
        const [id] = await queries.listMemberships(database, userId, undefined, { ...BATCH, rows: 1 });
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
