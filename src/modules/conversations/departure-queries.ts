import type { Sql } from "../../db/client.ts";
import { NIL_UUID } from "../../lib/id.ts";
import type { FormerMember, Member } from "../../protocol/conversation.ts";

/**
 * Lists the ids of a user's conversations in order: at most `conversationsMax` conversations, with at most `membersMax` members in total.
 * The first conversation is listed even if it has more members.
 */
export async function listMemberships(
  sql: Sql,
  userId: string,
  afterId = NIL_UUID,
  { conversationsMax, membersMax }: { conversationsMax: number; membersMax: number },
): Promise<string[]> {
  const memberships = await sql<{ conversation_id: string }[]>`
    select conversation_id from (
      select m.conversation_id, sum(o.count) over (order by m.conversation_id) - o.count as before
      from (
        select conversation_id from members where user_id = ${userId} and conversation_id > ${afterId}
        order by conversation_id limit ${conversationsMax}
      ) m
      cross join lateral (
        select count(*) as count from (
          select 1 from members x where x.conversation_id = m.conversation_id limit ${membersMax}) counted
      ) o
    ) memberships
    where before < ${membersMax} order by conversation_id`;
  return memberships.map(({ conversation_id }) => conversation_id);
}

export type DepartureEvent = { conversation_id: string; seq: number; at: Date } & (
  | { type: "member.added"; data: Member }
  | { type: "member.removed"; data: FormerMember }
  | { type: "conversation.deleted"; data: { id: string } }
);

/**
 * Ends a user's memberships in these conversations, and deletes the conversations that have no other members (sql/functions).
 * @param shouldWait whether to wait for a locked conversation, which is allowed only for a single id. Otherwise, locked conversations are
 * skipped.
 * @returns the events in order.
 */
export async function leaveConversations(
  sql: Sql,
  userId: string,
  replacementName: string,
  conversationIds: string[],
  shouldWait = false,
): Promise<DepartureEvent[]> {
  return sql<DepartureEvent[]>`
    select conversation_id, seq, type, data, at
    from leave_conversations(${userId}, ${replacementName}, ${conversationIds}::uuid[], ${shouldWait})`;
}
