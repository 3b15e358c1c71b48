import type { Sql } from "../../db/client.ts";
import type { FormerMember, Member } from "../../protocol/conversation.ts";

const FIRST_ID = "00000000-0000-0000-0000-000000000000";

/** Conversations that a user is in, by their ids. */
export async function listMemberships(sql: Sql, userId: string, afterId = FIRST_ID, rows: number): Promise<string[]> {
  const found = await sql<{ conversation_id: string }[]>`
    select conversation_id from members where user_id = ${userId} and conversation_id > ${afterId}
    order by conversation_id limit ${rows}`;
  return found.map(({ conversation_id }) => conversation_id);
}

export type DepartureEvent = {
  conversation_id: string;
  seq: number;
  type: "member.added" | "member.removed";
  data: Member | FormerMember;
  at: Date;
};

/** Ends memberships where somebody else is left (sql/functions). @returns the events in their order. */
export async function leaveConversations(
  sql: Sql,
  userId: string,
  shownName: string,
  conversationIds: string[],
): Promise<DepartureEvent[]> {
  return sql<DepartureEvent[]>`
    select conversation_id, seq, type, data, at
    from leave_conversations(${userId}, ${shownName}, ${conversationIds}::uuid[])`;
}

export type Erasure = { is_shared: boolean } & ({ is_erased: false } | { is_erased: true; seq: number; at: Date });

/** Takes away a part of a conversation where nobody else is left (sql/functions). */
export async function eraseConversation(
  sql: Sql,
  userId: string,
  conversationId: string,
  rows: number,
): Promise<Erasure> {
  const [row] = await sql<Erasure[]>`
    select is_shared, is_erased, seq, at from erase_conversation(${userId}, ${conversationId}, ${rows})`;
  if (!row) throw new Error("A function that returns one row returned none.");
  return row;
}
