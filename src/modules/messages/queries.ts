import type { Sql } from "../../db/client.ts";
import { fitCounts, fitUsd } from "../../db/storable.ts";
import { messageColumns } from "../../events/columns.ts";
import { createSlice, type MeasuredRow, READ_BYTES_MAX, type Slice, selectTextSizes } from "../../events/slice.ts";
import type { StoredError } from "../../lib/error-codes.ts";
import type { MemberRole } from "../../protocol/conversation.ts";
import type { EventPosition } from "../../protocol/events.ts";
import type { FinishReason, MessageRow, MessageTokens } from "../../protocol/message.ts";
import type { Integration } from "./send-queries.ts";

/** A tool's result, stored as a message. */
export type ToolMessage = {
  id: string;
  conversationId: string;
  content: string;
  parentId: string | null;
  metadata: Record<string, unknown>;
};

/** An answer that wasn't written by a generation. */
export type ExternalAnswer = {
  id: string;
  conversationId: string;
  content: string;
  status: "complete" | "cancelled" | "failed";
  parentId: string | null;
  metadata: Record<string, unknown>;
  model: string | null;
  finishReason: FinishReason | null;
  usage: MessageTokens | null;
  costUsd: number | null;
  /** Time from the request to the first token; null if there was no text. */
  firstTokenMs: number | null;
  /** The model's reasoning. Absent if there is none, or it isn't stored. */
  reasoning?: string | null;
  /** The parsed structured output, in a form that Postgres can store. Absent if there is none. */
  output?: unknown;
  error?: StoredError;
};

type Json = Parameters<Sql["json"]>[0];

/** Stores a tool message with a sequence number that was allocated in the same transaction. */
export async function insertToolMessage(sql: Sql, message: ToolMessage, { seq, at }: EventPosition): Promise<void> {
  const { id, conversationId, content, parentId, metadata } = message;
  await sql`
    insert into messages (id, conversation_id, seq, role, content, status, parent_id, metadata, created_at, updated_at)
    values (${id}, ${conversationId}, ${seq}, 'tool', ${content}, 'complete', ${parentId}, ${sql.json(metadata as Json)},
      ${at}, ${at})`;
}

/**
 * Stores an answer and its event in one statement, which waits for the conversation's lock. If the answer is already stored, returns
 * it. Numbers that are too large for their columns are capped.
 * @returns undefined if the conversation was deleted.
 */
export async function storeAnswer(
  sql: Sql,
  answer: ExternalAnswer,
  lockTimeoutMs: number,
): Promise<MessageRow | undefined> {
  const usage = answer.usage && fitTokens(answer.usage);
  const [row] = await sql<MessageRow[]>`
    select ${messageColumns(sql)} from store_answer(${answer.conversationId}, ${answer.id}, ${answer.content},
      ${answer.status}, ${answer.parentId}, ${sql.json(answer.metadata as Json)}, ${answer.model}, ${answer.finishReason},
      ${usage?.input_tokens ?? null}, ${usage?.output_tokens ?? null}, ${usage?.cached_input_tokens ?? null},
      ${usage?.reasoning_tokens ?? null}, ${fitUsd(answer.costUsd)}, ${answer.error?.code ?? null},
      ${answer.error?.detail ?? null}, ${lockTimeoutMs}, ${answer.firstTokenMs}, ${answer.reasoning ?? null},
      ${answer.output == null ? null : JSON.stringify(answer.output)}::text::json) x`;
  return row;
}

/** Caps each count at the maximum of its column. */
export const fitTokens = ({
  input_tokens,
  output_tokens,
  cached_input_tokens,
  reasoning_tokens,
}: MessageTokens): MessageTokens => fitCounts({ input_tokens, output_tokens, cached_input_tokens, reasoning_tokens });

/**
 * Returns the condition that selects a message. `conversationId` is null if a frame omits the conversation. If it is given, only that
 * conversation's partition is searched.
 */
const matchMessage = (sql: Sql, conversationId: string | null, messageId: string) =>
  conversationId === null
    ? sql`x.id = ${messageId}`
    : sql`x.id = ${messageId} and x.conversation_id = ${conversationId}`;

/**
 * Joins the user's membership to a message `x`. The `limit 1` makes Postgres look up each membership separately instead of
 * scanning all of the user's memberships.
 */
const joinMember = (sql: Sql, userId: string) => sql`
  cross join lateral (
    select m.role from members m where m.conversation_id = x.conversation_id and m.user_id = ${userId} limit 1
  ) m`;

/** A message that the user can see, with the user's role. */
export type VisibleRow = MessageRow & { member_role: MemberRole };

/** Finds the conversation of a message that the user can see. Returns undefined for an outsider. */
export async function findConversationId(
  sql: Sql,
  conversationId: string | null,
  messageId: string,
  userId: string,
): Promise<string | undefined> {
  const [row] = await sql<{ conversation_id: string }[]>`
    select x.conversation_id from messages x ${joinMember(sql, userId)}
    where ${matchMessage(sql, conversationId, messageId)}`;
  return row?.conversation_id;
}

/** Finds a message that the user can see. Returns undefined for an outsider. */
export async function findMessage(
  sql: Sql,
  conversationId: string | null,
  messageId: string,
  userId: string,
): Promise<VisibleRow | undefined> {
  const [row] = await sql<VisibleRow[]>`
    select ${messageColumns(sql)}, m.role as member_role from current_messages x ${joinMember(sql, userId)}
    where ${matchMessage(sql, conversationId, messageId)}`;
  return row;
}

/** Finds a message without checking access. */
export async function findMessageById(sql: Sql, conversationId: string, id: string): Promise<MessageRow | undefined> {
  const [row] = await sql<MessageRow[]>`
    select ${messageColumns(sql)} from current_messages x where ${matchMessage(sql, conversationId, id)}`;
  return row;
}

/** Finds a message after locking its conversation, which waits for any transaction that may be storing the message. */
export async function findStoredMessage(sql: Sql, conversationId: string, id: string): Promise<MessageRow | undefined> {
  const lockQuery = sql`select 1 from conversations where id = ${conversationId} for no key update`.execute();
  const [, row] = await Promise.all([lockQuery, findMessageById(sql, conversationId, id)]);
  return row;
}

/** Finds the first answer to a message. */
export async function findAnswer(sql: Sql, conversationId: string, parentId: string): Promise<MessageRow | undefined> {
  const [row] = await sql<MessageRow[]>`
    select ${messageColumns(sql)} from current_messages x
    where x.conversation_id = ${conversationId} and x.parent_id = ${parentId} and x.role = 'assistant'
    order by x.seq limit 1`;
  return row;
}

/**
 * Finds the version of a history page: the conversation's newest `seq` and the authors' names. Returns undefined for an outsider.
 */
export async function findPageVersion(
  sql: Sql,
  conversationId: string,
  userId: string,
  authorIds: string[],
): Promise<{ last_seq: number; names: (string | null)[] } | undefined> {
  const [row] = await sql<{ last_seq: number; names: (string | null)[] }[]>`
    select c.last_seq, array(
      select u.display_name from unnest(${authorIds}::uuid[]) with ordinality i (id, n)
      left join users u on u.id = i.id order by i.n) as names
    from members m join conversations c on c.id = m.conversation_id
    where m.conversation_id = ${conversationId} and m.user_id = ${userId}`;
  return row;
}

/**
 * Lists up to `limit` messages within a range. With only `afterSeq`, lists the oldest ones, oldest first. Otherwise lists the
 * newest ones, newest first.
 */
export async function listMessages(
  sql: Sql,
  conversationId: string,
  { beforeSeq, afterSeq }: { beforeSeq: number | undefined; afterSeq: number | undefined },
  limit: number,
): Promise<Slice<MessageRow>> {
  const isForward = afterSeq !== undefined && beforeSeq === undefined;
  const afterCondition = afterSeq !== undefined ? sql`and seq > ${afterSeq}` : sql``;
  const beforeCondition = beforeSeq !== undefined ? sql`and seq < ${beforeSeq}` : sql``;
  const order = isForward ? sql`x.seq asc` : sql`x.seq desc`;
  const rows = await sql<(MessageRow & MeasuredRow)[]>`
    select ${messageColumns(sql)}, x.bytes_before from (
      select x.*, ${selectTextSizes(sql, order)} from (
        select ${messageColumns(sql)} from current_messages x
        where conversation_id = ${conversationId} ${afterCondition} ${beforeCondition} order by ${order} limit ${limit}
      ) x
    ) x
    where x.bytes_before_last <= ${READ_BYTES_MAX} order by ${order}`;
  return createSlice(rows);
}

/** Finds the `seq` of messages in one conversation, by message id. */
export async function findSeqs(sql: Sql, conversationId: string, ids: readonly string[]): Promise<Map<string, number>> {
  if (ids.length === 0) return new Map();
  const rows = await sql<{ id: string; seq: number }[]>`
    select i.id, m.seq from unnest(${[...new Set(ids)]}::uuid[]) as i (id)
    cross join lateral (
      select x.seq from messages x where x.id = i.id and x.conversation_id = ${conversationId} limit 1
    ) m`;
  return new Map(rows.map(({ id, seq }) => [id, seq]));
}

/**
 * Finds a message that the user can see, and locks its conversation, so that the message can't change until the transaction
 * ends. Returns undefined for an outsider.
 */
export async function lockMessage(
  sql: Sql,
  conversationId: string,
  messageId: string,
  userId: string,
): Promise<VisibleRow | undefined> {
  const lockQuery = sql`
    select 1 from conversations c where c.id = ${conversationId}
      and exists (select 1 from members m where m.conversation_id = c.id and m.user_id = ${userId})
    for no key update`.execute();
  // A separate statement sees the changes that were committed while the first statement waited for the lock.
  const [, row] = await Promise.all([lockQuery, findMessage(sql, conversationId, messageId, userId)]);
  return row;
}

/**
 * Updates a message's text and deletion state. A deleted message keeps only its `seq` and author.
 * @param addedBytes the growth of the text in UTF-8 bytes. It counts toward the quota of the author or the hook's creator, even
 * if that user has left the conversation.
 */
export async function updateContent(
  sql: Sql,
  { conversation_id, seq, content, updated_at, deleted_at }: MessageRow,
  addedBytes: number,
): Promise<void> {
  const clearedColumns = deleted_at ? sql`, reasoning = null, output = null, reply_options = null` : sql``;
  const [previous] = await sql<{ option_bytes: number }[]>`
    update messages m set content = ${content}, updated_at = ${updated_at}, deleted_at = ${deleted_at} ${clearedColumns}
    from (
      select coalesce(octet_length(x.reply_options::text), 0) as option_bytes from messages x
      where x.conversation_id = ${conversation_id} and x.seq = ${seq}
    ) before
    where m.conversation_id = ${conversation_id} and m.seq = ${seq} returning before.option_bytes`;
  const optionBytes = deleted_at ? (previous?.option_bytes ?? 0) : 0;
  if (optionBytes > 0) await removeStoredFormat(sql, conversation_id, seq);
  const netAddedBytes = addedBytes - optionBytes;
  for (const table of ["members", "former_members"])
    await sql`
      update ${sql(table)} set written_bytes = greatest(0, written_bytes + ${netAddedBytes})
      where conversation_id = ${conversation_id} and user_id = (
        select coalesce(x.author_id, x.hook_user_id, x.supplied_by) from messages x
        where x.conversation_id = ${conversation_id} and x.seq = ${seq})`;
}

/** Removes the copies of a message's reply format from the generations of its answers. */
async function removeStoredFormat(sql: Sql, conversationId: string, seq: number): Promise<void> {
  await sql`
    update generations g set reply_format = null
    where g.conversation_id = ${conversationId} and g.reply_format is not null and g.message_seq = any (array(
      select a.seq from messages a
      where a.conversation_id = ${conversationId} and a.role = 'assistant' and a.parent_id = (
        select m.id from messages m where m.conversation_id = ${conversationId} and m.seq = ${seq})))`;
}

/** Finds the message that a member or their hook has already sent with this client message id. Returns undefined for an outsider. */
export async function findSentMessageId(
  sql: Sql,
  conversationId: string,
  userId: string,
  clientMessageId: string,
  integration: Integration | null,
): Promise<string | undefined> {
  const senderCondition = integration ? sql`x.hook_id = ${integration.hookId}` : sql`x.author_id = m.user_id`;
  const [row] = await sql<{ id: string }[]>`
    select x.id from members m
    join messages x on x.conversation_id = m.conversation_id and ${senderCondition} and x.client_message_id = ${clientMessageId}
    where m.conversation_id = ${conversationId} and m.user_id = ${userId}`;
  return row?.id;
}
