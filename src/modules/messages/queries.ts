import type { PendingQuery, Row } from "postgres";
import type { Sql } from "../../db/client.ts";
import type { DurableEvent, DurableEventType } from "../../realtime/frames.ts";
import type { MemberRole } from "../../realtime/hub.ts";
import type { Feedback, FinishReason, Message } from "./model.ts";

export type MessageRow = {
  id: string;
  conversation_id: string;
  seq: number;
  role: Message["role"];
  author_id: string | null;
  author_name: string | null;
  content: string;
  status: Message["status"];
  model: string | null;
  finish_reason: FinishReason | null;
  input_tokens: number | null;
  output_tokens: number | null;
  cost_usd: string | null;
  parent_id: string | null;
  client_message_id: string | null;
  error_code: string | null;
  error_detail: string | null;
  metadata: Record<string, unknown>;
  created_at: Date;
  updated_at: Date;
  deleted_at: Date | null;
};

export const messageColumns = (sql: Sql) => sql`
  x.id, x.conversation_id, x.seq, x.role, x.author_id, u.display_name as author_name, x.content, x.status, x.model,
  x.finish_reason, x.input_tokens, x.output_tokens, x.cost_usd, x.parent_id, x.client_message_id, x.error_code,
  x.error_detail, x.metadata, x.created_at, x.updated_at, x.deleted_at`;

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

/**
 * Stores a message under the conversation's next number. Publish its `message.created` after the commit.
 * @returns undefined when the conversation is gone.
 */
export async function insertMessage(sql: Sql, message: OtherMessage): Promise<MessageRow | undefined> {
  const { id, conversationId, usage, error } = message;
  await sql`
    with taken as (
      update conversations set last_seq = last_seq + 1, updated_at = now() where id = ${conversationId}
      returning last_seq
    )
    insert into messages (id, conversation_id, seq, role, content, status, parent_id, metadata, model, finish_reason,
      input_tokens, output_tokens, cost_usd, error_code, error_detail)
    select ${id}, ${conversationId}, last_seq, ${message.role}, ${message.content}, ${message.status},
      ${message.parentId}, ${sql.json(message.metadata as Parameters<Sql["json"]>[0])}, ${message.model ?? null},
      ${message.finishReason ?? null}, ${usage?.input_tokens ?? null}, ${usage?.output_tokens ?? null},
      ${message.costUsd ?? null}, ${error?.code ?? null}, ${error?.detail ?? null}
    from taken`;
  return findMessageById(sql, id);
}

/** A message that the user may see, with their role; undefined for an outsider. */
export async function findMessage(
  sql: Sql,
  id: string,
  userId: string,
): Promise<(MessageRow & { member_role: MemberRole }) | undefined> {
  const [row] = await sql<(MessageRow & { member_role: MemberRole })[]>`
    select ${messageColumns(sql)}, m.role as member_role from messages x
    join members m on m.conversation_id = x.conversation_id and m.user_id = ${userId}
    left join users u on u.id = x.author_id where x.id = ${id}`;
  return row;
}

/** A message whoever asks: for those who have checked the access, or act for nobody. */
export async function findMessageById(sql: Sql, id: string): Promise<MessageRow | undefined> {
  const [row] = await sql<MessageRow[]>`
    select ${messageColumns(sql)} from messages x left join users u on u.id = x.author_id where x.id = ${id}`;
  return row;
}

/** The first answer to a message. */
export async function findAnswer(sql: Sql, parentId: string): Promise<MessageRow | undefined> {
  const [row] = await sql<MessageRow[]>`
    select ${messageColumns(sql)} from messages x left join users u on u.id = x.author_id
    where x.parent_id = ${parentId} and x.role = 'assistant' order by x.seq limit 1`;
  return row;
}

/**
 * Bytes of text that one read takes in, plus at most two messages: texts are long enough for a page of them to fill the
 * memory. As JSON it is at most six times as much.
 */
export const READ_BYTES_MAX = 2 * 1024 * 1024;

/** Rows in order, of which the first `fitting` are within `READ_BYTES_MAX`; one more tells that there is more. */
export type Slice<T> = { rows: T[]; fitting: number };

/** A row with the bytes of the texts before it. */
type Measured = { bytes_before: number };

/** Bytes of the texts before a row, and before the one before it, in the order in which they are read. */
const measure = (sql: Sql, order: PendingQuery<Row[]>) => sql`
  coalesce(sum(octet_length(x.content)) over (order by ${order} rows between unbounded preceding and 1 preceding), 0)
    as bytes_before,
  coalesce(sum(octet_length(x.content)) over (order by ${order} rows between unbounded preceding and 2 preceding), 0)
    as bytes_before_last`;

const createSlice = <T extends Measured>(rows: T[]): Slice<T> => ({
  rows,
  fitting: rows.filter(({ bytes_before }) => bytes_before <= READ_BYTES_MAX).length,
});

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
        select * from messages x where conversation_id = ${conversationId} ${after} ${before} order by ${order} limit ${rows}
      ) x
    ) x left join users u on u.id = x.author_id
    where x.bytes_before_last <= ${READ_BYTES_MAX} order by ${order}`;
  return createSlice(found);
}

/**
 * A message that the user may see, with their role, and its conversation locked against every other writer: what it says
 * holds until the transaction ends. Undefined for an outsider.
 */
export async function lockMessage(
  sql: Sql,
  id: string,
  userId: string,
): Promise<(MessageRow & { member_role: MemberRole }) | undefined> {
  const locked = sql`
    select 1 from conversations c where c.id = (
      select x.conversation_id from messages x
      join members m on m.conversation_id = x.conversation_id and m.user_id = ${userId} where x.id = ${id})
    for update`.execute();
  // Read by a statement of its own: only that one sees what was committed while the lock was waited for.
  const [, row] = await Promise.all([locked, findMessage(sql, id, userId)]);
  return row;
}

export async function updateContent(sql: Sql, id: string, content: string): Promise<void> {
  await sql`update messages set content = ${content}, updated_at = now() where id = ${id}`;
}

/** Leaves a tombstone: the number and the author stay, the text is gone. */
export async function deleteContent(sql: Sql, id: string): Promise<void> {
  await sql`update messages set content = '', deleted_at = now(), updated_at = now() where id = ${id}`;
}

export async function upsertFeedback(
  sql: Sql,
  messageId: string,
  userId: string,
  rating: number,
  comment: string | null,
): Promise<Feedback> {
  const [row] = await sql<{ rating: number; comment: string | null; updated_at: Date }[]>`
    insert into feedback (message_id, user_id, rating, comment) values (${messageId}, ${userId}, ${rating}, ${comment})
    on conflict (message_id, user_id)
      do update set rating = excluded.rating, comment = excluded.comment, updated_at = now()
    returning rating, comment, updated_at`;
  if (!row) throw new Error("An upsert returns its row.");
  return { message_id: messageId, ...row, updated_at: row.updated_at.toISOString() };
}

type EventRow = MessageRow & {
  event_seq: number;
  type: DurableEventType;
  data: Record<string, unknown> | null;
  at: Date;
};

/**
 * Durable events after `afterSeq` up to `untilSeq`, in order. A message is its own `message.created`; what an event says
 * of a message is its state now, which is where every replay ends up.
 */
export async function listEvents(
  sql: Sql,
  conversationId: string,
  afterSeq: number,
  untilSeq: number,
  rows: number,
): Promise<Slice<DurableEvent>> {
  const found = await sql<(EventRow & Measured)[]>`
    with numbered as (
      (select seq, 'message.created' as type, id as message_id, null::jsonb as data, created_at as at from messages
       where conversation_id = ${conversationId} and seq > ${afterSeq} and seq <= ${untilSeq} order by seq limit ${rows})
      union all
      (select seq, type, message_id, data, at from events
       where conversation_id = ${conversationId} and seq > ${afterSeq} and seq <= ${untilSeq} order by seq limit ${rows})
      order by seq limit ${rows}
    ), measured as (
      select n.seq as event_seq, n.type, n.data, n.at, ${messageColumns(sql)}, ${measure(sql, sql`n.seq`)}
      from numbered n left join messages x on x.id = n.message_id left join users u on u.id = x.author_id
    )
    select * from measured where bytes_before_last <= ${READ_BYTES_MAX} order by event_seq`;
  const { rows: measured, fitting } = createSlice(found);
  return { rows: measured.map((row) => mapToEvent(row, conversationId)), fitting };
}

/** The end of an answer: its `message.completed`. */
export async function findCompletion(
  sql: Sql,
  { id, conversation_id, seq }: Pick<Message, "id" | "conversation_id" | "seq">,
): Promise<{ seq: number; at: Date } | undefined> {
  const [row] = await sql<{ seq: number; at: Date }[]>`
    select seq, at from events
    where conversation_id = ${conversation_id} and seq > ${seq} and message_id = ${id} and type = 'message.completed'
    order by seq limit 1`;
  return row;
}

function mapToEvent({ event_seq, type, data, at, ...message }: EventRow, conversationId: string): DurableEvent {
  return {
    type,
    conversation_id: conversationId,
    seq: event_seq,
    at: at.toISOString(),
    data: message.id ? mapToMessage(message) : (data ?? {}),
  };
}

export function mapToMessage(row: MessageRow): Message {
  const hasUsage = row.input_tokens !== null && row.output_tokens !== null;
  return {
    id: row.id,
    conversation_id: row.conversation_id,
    seq: row.seq,
    role: row.role,
    author:
      row.author_id !== null && row.author_name !== null ? { id: row.author_id, display_name: row.author_name } : null,
    content: row.content,
    status: row.status,
    model: row.model,
    finish_reason: row.finish_reason,
    usage: hasUsage
      ? {
          input_tokens: row.input_tokens ?? 0,
          output_tokens: row.output_tokens ?? 0,
          cost_usd: row.cost_usd === null ? null : Number(row.cost_usd),
        }
      : null,
    parent_id: row.parent_id,
    client_message_id: row.client_message_id,
    error: row.error_code === null ? null : { code: row.error_code, detail: row.error_detail ?? "" },
    metadata: row.metadata,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
    deleted_at: row.deleted_at?.toISOString() ?? null,
  };
}
