import type postgres from "postgres";
import type { StoredConversation, StoredEvent, StoredMessage } from "./history.ts";

/** Reads a conversation with its members, messages and events. */
export async function readStoredConversation(sql: postgres.Sql, id: string): Promise<StoredConversation> {
  const [conversation] = await sql<{ last_seq: string }[]>`select last_seq from conversations where id = ${id}`;
  const members = await sql<{ user_id: string }[]>`select user_id from members where conversation_id = ${id}`;
  const messages = await sql<(Omit<StoredMessage, "seq"> & { seq: string })[]>`
    select id, conversation_id as "conversationId", seq, role, client_message_id as "clientMessageId", content, status
    from messages where conversation_id = ${id} order by seq`;
  const events = await sql<(Omit<StoredEvent, "seq"> & { seq: string })[]>`
    select conversation_id as "conversationId", seq, type, message_id as "messageId", data ->> 'user_id' as "userId",
      (extract(epoch from at) * 1000)::float8 as "atMs"
    from events where conversation_id = ${id} order by seq`;
  return {
    id,
    lastSeq: Number(conversation?.last_seq),
    memberIds: members.map(({ user_id }) => user_id),
    messages: messages.map((message) => ({ ...message, seq: Number(message.seq) })),
    events: events.map((event) => ({ ...event, seq: Number(event.seq) })),
  };
}

/** Reads the last sequence number of each conversation and the number of answers in progress. */
export async function readProgress(sql: postgres.Sql, ids: string[]) {
  const rows = await sql<{ id: string; last_seq: string; streaming: string }[]>`
    select c.id, c.last_seq, (select count(*) from messages m where m.conversation_id = c.id and m.status = 'streaming') as streaming
    from conversations c where c.id = any (${ids}::uuid[])`;
  return {
    seqs: Object.fromEntries(rows.map(({ id, last_seq }) => [id, Number(last_seq)])),
    streamingCount: rows.reduce((sum, { streaming }) => sum + Number(streaming), 0),
  };
}
