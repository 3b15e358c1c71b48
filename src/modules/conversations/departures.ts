import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import type { EventLog } from "../../events/log.ts";
import { createEvent } from "../../protocol/events.ts";
import * as queries from "./departure-queries.ts";

/** Conversations that one transaction locks, and their members, among whom new owners are looked for. */
const BATCH = { rows: 50, members: 500 };

/** How a user who is being deleted goes out of all their conversations (docs/decisions/0040). */
export function createDepartures({ database, events }: { database: Database; events: EventLog }) {
  const publish = (rows: queries.DepartureEvent[]): void =>
    events.publish(rows.map((row) => createEvent(row.type, row.conversation_id, row, row.data)));

  return {
    /**
     * Ends every membership of a user who can start nothing any more: disabled, sessions ended. Conversations of the user
     * alone are deleted. Each step is a transaction of its own and of bounded size, and yields after it; if it is
     * interrupted, call it again.
     * @param shownName what others are told in place of the user's name.
     * @throws a lock timeout of the database, when a conversation stays locked.
     */
    async *leaveAll(userId: string, shownName: string): AsyncGenerator<void> {
      let after: string | undefined;
      for (;;) {
        const ids = await queries.listMemberships(database, userId, after, BATCH);
        if (ids.length === 0) break;
        const leave = (sql: Sql) => queries.leaveConversations(sql, userId, shownName, ids);
        publish(await withTransaction(database, leave));
        after = ids.at(-1);
        yield;
      }
      // Those that were locked, and those that they were added to at the last moment.
      for (;;) {
        const [id] = await queries.listMemberships(database, userId, undefined, { ...BATCH, rows: 1 });
        if (id === undefined) return;
        publish(await events.write(id, ({ sql }) => queries.leaveConversations(sql, userId, shownName, [id], true)));
        yield;
      }
    },
  };
}

export type Departures = ReturnType<typeof createDepartures>;
