import type { Sql } from "../../db/client.ts";
import { messageColumns } from "../../events/columns.ts";
import { createSlice, type Measured, measure, READ_BYTES_MAX, type Slice } from "../../events/slice.ts";
import type { MemberRole } from "../../protocol/conversation.ts";
import type { EventPosition } from "../../protocol/events.ts";
import type { FinishReason, MessageRow } from "../../protocol/message.ts";

/** A message that no user sent: what a tool gave, or an answer that was written elsewhere. */
export type OtherMessage = {
  id: string;
  conversationId: string;
  role: "assistant" | "tool";
  content: string;
  status: "complete" | "cancelled" | "failed";
  parentId: string | null;
  metadata: Record<string, unknown>;
  model?: string | null;
  finishReason?: FinishReason | null;
  usage?: { input_tokens: number; output_tokens: number } | null;
  costUsd?: number | null;
  error?: { code: string; detail: string } | null;
};

/** Stores a message under a number that was taken in the same transaction. */
export async function insertMessage(sql: Sql, message: OtherMessage, { seq, at }: EventPosition): Promise<void> {
  const { id, conversationId, usage, error } = message;
  await sql`
    insert into messages (id, conversation_id, seq, role, content, status, parent_id, metadata, model, finish_reason,
      input_tokens, output_tokens, cost_usd, error_code, error_detail, created_at, updated_at)
    values (${id}, ${conversationId}, ${seq}, ${message.role}, ${message.content}, ${message.status},
      ${message.parentId}, ${sql.json(message.metadata as Parameters<Sql["json"]>[0])}, ${message.model ?? null},
      ${message.finishReason ?? null}, ${usage?.input_tokens ?? null}, ${usage?.output_tokens ?? null},
      ${message.costUsd ?? null}, ${error?.code ?? null}, ${error?.detail ?? null}, ${at}, ${at})`;
}

/**
 * Finds a message, in its conversation where that is known: a partitioned table is then searched in one partition. Frames
 * may leave it out.
 */
const whereIs = (sql: Sql, conversationId: string | null, messageId: string) =>
  conversationId === null
    ? sql`x.id = ${messageId}`
    : sql`x.id = ${messageId} and x.conversation_id = ${conversationId}`;

/** Joins the user's membership to a message `x`. With a limit it is planned by itself, and never walks all of their memberships. */
const memberOf = (sql: Sql, userId: string) => sql`
  cross join lateral (
    select m.role from members m where m.conversation_id = x.conversation_id and m.user_id = ${userId} limit 1
  ) m`;

/** A row of a message that a user may see, with their role. */
export type VisibleRow = MessageRow & { member_role: MemberRole };

/** The conversation of a message that the user may see; undefined for an outsider. */
export async function findConversationOf(
  sql: Sql,
  conversationId: string | null,
  messageId: string,
  userId: string,
): Promise<string | undefined> {
  const [row] = await sql<{ conversation_id: string }[]>`
    select x.conversation_id from messages x ${memberOf(sql, userId)}
    where ${whereIs(sql, conversationId, messageId)}`;
  return row?.conversation_id;
}

/** A message that the user may see; undefined for an outsider. */
export async function findMessage(
  sql: Sql,
  conversationId: string | null,
  messageId: string,
  userId: string,
): Promise<VisibleRow | undefined> {
  const [row] = await sql<VisibleRow[]>`
    select ${messageColumns(sql)}, m.role as member_role from current_messages x ${memberOf(sql, userId)}
    where ${whereIs(sql, conversationId, messageId)}`;
  return row;
}

/** A message without a check of access: for callers who have checked it, or who act for nobody. */
export async function findMessageById(sql: Sql, conversationId: string, id: string): Promise<MessageRow | undefined> {
  const [row] = await sql<MessageRow[]>`
    select ${messageColumns(sql)} from current_messages x where ${whereIs(sql, conversationId, id)}`;
  return row;
}

/** The same with its conversation locked: an earlier transaction that may have stored it is committed, or gone. */
export async function findStoredMessage(sql: Sql, conversationId: string, id: string): Promise<MessageRow | undefined> {
  const locked = sql`select 1 from conversations where id = ${conversationId} for no key update`.execute();
  const [, row] = await Promise.all([locked, findMessageById(sql, conversationId, id)]);
  return row;
}

/** The first answer to a message. */
export async function findAnswer(sql: Sql, conversationId: string, parentId: string): Promise<MessageRow | undefined> {
  const [row] = await sql<MessageRow[]>`
    select ${messageColumns(sql)} from current_messages x
    where x.conversation_id = ${conversationId} and x.parent_id = ${parentId} and x.role = 'assistant'
    order by x.seq limit 1`;
  return row;
}

/** In the order of reading: the newest `rows` before `beforeSeq`, backward, or the oldest `rows` after `afterSeq`. */
export async function listMessages(
  sql: Sql,
  conversationId: string,
  { beforeSeq, afterSeq }: { beforeSeq: number | undefined; afterSeq: number | undefined },
  rows: number,
): Promise<Slice<MessageRow>> {
  const isForward = afterSeq !== undefined && beforeSeq === undefined;
  const after = afterSeq !== undefined ? sql`and seq > ${afterSeq}` : sql``;
  const before = beforeSeq !== undefined ? sql`and seq < ${beforeSeq}` : sql``;
  const order = isForward ? sql`x.seq asc` : sql`x.seq desc`;
  const found = await sql<(MessageRow & Measured)[]>`
    select ${messageColumns(sql)}, x.bytes_before from (
      select x.*, ${measure(sql, order)} from (
        select ${messageColumns(sql)} from current_messages x
        where conversation_id = ${conversationId} ${after} ${before} order by ${order} limit ${rows}
      ) x
    ) x
    where x.bytes_before_last <= ${READ_BYTES_MAX} order by ${order}`;
  return createSlice(found);
}

/**
 * A message that the user may see, with its conversation locked against every other writer: what it says holds until the
 * transaction ends. Undefined for an outsider.
 */
export async function lockMessage(
  sql: Sql,
  conversationId: string,
  messageId: string,
  userId: string,
): Promise<VisibleRow | undefined> {
  const locked = sql`
    select 1 from conversations c where c.id = ${conversationId}
      and exists (select 1 from members m where m.conversation_id = c.id and m.user_id = ${userId})
    for no key update`.execute();
  // Read by a statement of its own: only that one sees what was committed while the lock was waited for.
  const [, row] = await Promise.all([locked, findMessage(sql, conversationId, messageId, userId)]);
  return row;
}

/**
 * Writes what may change of a message: its text, and whether it is deleted. The number and the author stay.
 * @param addedBytes how much longer the text is in UTF-8; it counts in the quota of the author, also if they have left.
 */
export async function updateContent(
  sql: Sql,
  { conversation_id, seq, author_id, content, updated_at, deleted_at }: MessageRow,
  addedBytes: number,
): Promise<void> {
  await sql`
    update messages set content = ${content}, updated_at = ${updated_at}, deleted_at = ${deleted_at}
    where conversation_id = ${conversation_id} and seq = ${seq}`;
  for (const table of ["members", "former_members"])
    await sql`
      update ${sql(table)} set written_bytes = greatest(0, written_bytes + ${addedBytes})
      where conversation_id = ${conversation_id} and user_id = ${author_id}`;
}

/** The message that a member has sent under this id; undefined for an outsider. */
export async function findSent(
  sql: Sql,
  conversationId: string,
  userId: string,
  clientMessageId: string,
): Promise<string | undefined> {
  const [row] = await sql<{ id: string }[]>`
    select x.id from members m
    join messages x on x.conversation_id = m.conversation_id and x.author_id = m.user_id
      and x.client_message_id = ${clientMessageId}
    where m.conversation_id = ${conversationId} and m.user_id = ${userId}`;
  return row?.id;
}
