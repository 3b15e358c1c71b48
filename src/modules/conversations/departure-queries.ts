import type { Sql } from "../../db/client.ts";
import type { FormerMember, Member } from "../../protocol/conversation.ts";

const FIRST_ID = "00000000-0000-0000-0000-000000000000";

/**
 * Lists a user's conversations by id: at most `rows`, with at most `members` members in total. A single conversation may
 * have more members.
 */
export async function listMemberships(
  sql: Sql,
  userId: string,
  afterId = FIRST_ID,
  { rows, members }: { rows: number; members: number },
): Promise<string[]> {
  const found = await sql<{ conversation_id: string }[]>`
    select conversation_id from (
      select m.conversation_id, sum(o.count) over (order by m.conversation_id) - o.count as before
      from (
        select conversation_id from members where user_id = ${userId} and conversation_id > ${afterId}
        order by conversation_id limit ${rows}
      ) m
      cross join lateral (
        select count(*) as count from (
          select 1 from members x where x.conversation_id = m.conversation_id limit ${members}) counted
      ) o
    ) memberships
    where before < ${members} order by conversation_id`;
  return found.map(({ conversation_id }) => conversation_id);
}

export type DepartureEvent = { conversation_id: string; seq: number; at: Date } & (
  | { type: "member.added"; data: Member }
  | { type: "member.removed"; data: FormerMember }
  | { type: "conversation.deleted"; data: { id: string } }
);

/**
 * Ends memberships, and deletes conversations without other members (sql/functions).
 * @param wait whether to wait for locked conversations, which is allowed only for a single one. Otherwise they are skipped.
 * @returns the events in order.
 */
export async function leaveConversations(
  sql: Sql,
  userId: string,
  replacementName: string,
  conversationIds: string[],
  wait = false,
): Promise<DepartureEvent[]> {
  return sql<DepartureEvent[]>`
    select conversation_id, seq, type, data, at
    from leave_conversations(${userId}, ${replacementName}, ${conversationIds}::uuid[], ${wait})`;
}
