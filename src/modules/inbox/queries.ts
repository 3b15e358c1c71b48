import type { Sql } from "../../db/client.ts";
import { UNREAD_SHOWN_MAX, unreadColumn } from "../../events/columns.ts";

/** Identifies a conversation in a user's inbox. */
export type InboxKey = { conversation_id: string; user_id: string };

/**
 * The sequence numbers of a conversation's newest event and of the last event that the user has read. Every change of the inbox
 * state increases one of them.
 */
export type InboxSeqs = { last_seq: number; last_read_seq: number };

/** The state of a conversation in an inbox. */
export type InboxState = InboxKey & InboxSeqs & { title: string; unread: number; updated_at: Date };

/** Counts the unread messages in all conversations of a user, up to a maximum. */
export async function countUnread(sql: Sql, userId: string): Promise<number> {
  const [row] = await sql<{ unread: number }[]>`
    select least(${UNREAD_SHOWN_MAX}, coalesce(sum(counted.unread), 0))::int as unread
    from (
      select x.unread from members m
      cross join lateral (select * from conversations c where c.id = m.conversation_id limit 1) c
      cross join lateral (select ${unreadColumn(sql)} as unread) x
      -- Each row has at least one unread message, so no more rows are needed.
      where m.user_id = ${userId} and x.unread > 0 limit ${UNREAD_SHOWN_MAX}
    ) counted`;
  return row?.unread ?? 0;
}

/** Reads the current states. Omits conversations that the user is no longer a member of. */
export async function listStates(sql: Sql, keys: readonly InboxKey[]): Promise<InboxState[]> {
  const conversationIds = keys.map(({ conversation_id }) => conversation_id);
  const userIds = keys.map(({ user_id }) => user_id);
  return sql<InboxState[]>`
    select m.conversation_id, m.user_id, c.title, c.last_seq, m.last_read_seq, ${unreadColumn(sql)} as unread, c.updated_at
    from unnest(${conversationIds}::uuid[], ${userIds}::uuid[]) p (conversation_id, user_id)
    -- The limit makes Postgres plan each lookup separately; otherwise it may read whole tables.
    cross join lateral (
      select * from members m where m.conversation_id = p.conversation_id and m.user_id = p.user_id limit 1
    ) m
    cross join lateral (select * from conversations c where c.id = p.conversation_id limit 1) c`;
}

/** Lists up to `limit` members of these conversations, in the order of the conversations. */
export async function listInboxMembers(
  sql: Sql,
  conversationIds: readonly string[],
  limit: number,
): Promise<InboxKey[]> {
  return sql<InboxKey[]>`
    select m.conversation_id, m.user_id
    from unnest(${[...conversationIds]}::uuid[]) with ordinality as i (id, position)
    cross join lateral (
      select m.conversation_id, m.user_id from members m where m.conversation_id = i.id limit ${limit}
    ) m
    order by i.position limit ${limit}`;
}

/** Lists each user's conversations with the most recent activity. Activity times are accurate to a minute. */
export async function listNewestConversations(
  sql: Sql,
  userIds: readonly string[],
  limitPerUser: number,
): Promise<(InboxKey & InboxSeqs)[]> {
  return sql<(InboxKey & InboxSeqs)[]>`
    select m.conversation_id, m.user_id, c.last_seq, m.last_read_seq
    from unnest(${[...userIds]}::uuid[]) u (id)
    cross join lateral (
      (select a.conversation_id from member_activity a where a.user_id = u.id
       order by a.active_at desc limit ${limitPerUser})
      union
      -- Large conversations, whose active_at is updated with a delay.
      select v.conversation_id from activity_moves v
      where (select 1 from members x where x.conversation_id = v.conversation_id and x.user_id = u.id) is not null
    ) n
    cross join lateral (
      select * from members m where m.conversation_id = n.conversation_id and m.user_id = u.id limit 1
    ) m
    cross join lateral (select c.last_seq from conversations c where c.id = n.conversation_id limit 1) c`;
}
