import type { Sql } from "../../db/client.ts";
import type { LocalSubscribers } from "../local-subscribers.ts";

/** The maximum number of conversations per statement. */
const CONVERSATIONS_PER_QUERY_MAX = 2_000;

type Row = { id: string; last_seq: number; is_deleted: boolean };

const listLastSeqs = (sql: Sql, ids: string[]) => sql<Row[]>`
  select i.id, coalesce(c.last_seq, 0) as last_seq, c.id is null or c.deleted_at is not null as is_deleted
  from unnest(${ids}::uuid[]) i (id) left join conversations c on c.id = i.id`;

/**
 * Creates a poller that replaces the bus while it is down. It reads the last sequence numbers of conversations with local listeners from
 * the database, and notifies their subscribers.
 */
export function createStoredEventPoller(sql: Sql, local: Pick<LocalSubscribers, "deliver">) {
  /** Conversations that were already deleted at the previous check. Their last event may have been erased. */
  let previouslyDeleted = new Set<string>();
  let isChecking = false;

  return {
    /** Checks once, unless a check is already running. @throws database errors. */
    async check(conversationIds: string[]): Promise<void> {
      if (isChecking) return;
      isChecking = true;
      try {
        const currentlyDeleted = new Set<string>();
        for (let from = 0; from < conversationIds.length; from += CONVERSATIONS_PER_QUERY_MAX) {
          const rows = await listLastSeqs(sql, conversationIds.slice(from, from + CONVERSATIONS_PER_QUERY_MAX));
          for (const { id, last_seq, is_deleted } of rows) {
            if (is_deleted) currentlyDeleted.add(id);
            if (previouslyDeleted.has(id))
              local.deliver(id, [{ type: "conversation.gone", conversation_id: id } as never], true);
            else local.deliver(id, [{ type: "events.stored", conversation_id: id, seq: last_seq } as never], true);
          }
        }
        previouslyDeleted = currentlyDeleted;
      } finally {
        isChecking = false;
      }
    },
  };
}
