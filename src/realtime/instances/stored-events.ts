import type { Sql } from "../../db/client.ts";
import type { LocalSubscribers } from "../local-subscribers.ts";

/** Conversations per statement. */
const IDS_MAX = 2_000;

type Row = { id: string; last_seq: number; is_deleted: boolean };

const listPositions = (sql: Sql, ids: string[]) => sql<Row[]>`
  select i.id, coalesce(c.last_seq, 0) as last_seq, c.id is null or c.deleted_at is not null as is_deleted
  from unnest(${ids}::uuid[]) i (id) left join conversations c on c.id = i.id`;

/**
 * Replaces the bus while it is down: reads the newest events of the conversations with local listeners by primary key, and
 * notifies the subscribers.
 */
export function createStoredEvents(sql: Sql, local: Pick<LocalSubscribers, "deliver">) {
  /** Conversations found deleted by the previous check: their last event may be erased. */
  let deleted = new Set<string>();
  let isChecking = false;

  return {
    /** Checks once; a check already running is enough. @throws the database's errors. */
    async check(conversationIds: string[]): Promise<void> {
      if (isChecking) return;
      isChecking = true;
      try {
        const nowDeleted = new Set<string>();
        for (let from = 0; from < conversationIds.length; from += IDS_MAX) {
          const rows = await listPositions(sql, conversationIds.slice(from, from + IDS_MAX));
          for (const { id, last_seq, is_deleted } of rows) {
            if (is_deleted) nowDeleted.add(id);
            if (deleted.has(id)) local.deliver(id, [{ type: "conversation.gone", conversation_id: id } as never], true);
            else local.deliver(id, [{ type: "events.stored", conversation_id: id, seq: last_seq } as never], true);
          }
        }
        deleted = nowDeleted;
      } finally {
        isChecking = false;
      }
    },
  };
}
