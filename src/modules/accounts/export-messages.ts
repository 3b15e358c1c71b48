import type { PendingQuery, Row } from "postgres";
import type { Sql } from "../../db/client.ts";
import { type MeasuredRow, READ_BYTES_MAX, selectTextSizes } from "../../events/slice.ts";
import { NIL_UUID } from "../../lib/id.ts";
import type { ExportedRow } from "./export-queries.ts";

/** The maximum number of rows per statement. Their total size is also limited. */
const BATCH_ROWS = 200;
/** The maximum number of message positions that a statement reads. */
const POSITIONS_MAX = 5_000;
/** The maximum number of positions per statement if one conversation has more than `POSITIONS_MAX`. These take about 1 MB. */
const LARGE_CONVERSATION_POSITIONS_MAX = 50_000;

type Position = { conversation_id: string; seq: number };

/** Reads the messages that the user wrote, ordered by conversation and `seq`. Includes messages in conversations that the user has left. */
export async function* readMessages(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  const columns = sql`x.id, x.conversation_id, x.seq, x.content, x.status, x.parent_id, x.client_message_id, (
      select m.reply_options from messages m where m.conversation_id = x.conversation_id and m.seq = x.seq limit 1
    ) as reply_options, x.created_at, x.updated_at, x.deleted_at`;
  for await (const positions of listWrittenPositions(sql, userId)) yield* readMessagesAt(sql, positions, columns);
}

/**
 * Reads the answers to the user's own messages. In conversations that the user has left, reads only answers that they requested. A batch
 * may be empty even if more batches follow.
 */
export async function* readAnswers(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  const columns = sql`x.id, x.conversation_id, x.seq, x.content, x.status, x.model, x.reasoning, x.output, x.parent_id, x.created_at,
    x.updated_at, x.deleted_at, case when x.input_tokens is not null then json_build_object('input_tokens', x.input_tokens,
      'output_tokens', x.output_tokens, 'cost_usd', x.cost_usd, 'cached_input_tokens', coalesce(x.cached_input_tokens, 0),
      'reasoning_tokens', coalesce(x.reasoning_tokens, 0)) end as usage`;
  for await (const positions of listWrittenPositions(sql, userId))
    for (let from = 0; from < positions.length; from += BATCH_ROWS) {
      const answers = await findAnswers(sql, userId, positions.slice(from, from + BATCH_ROWS));
      if (answers.length > 0) yield* readMessagesAt(sql, answers, columns);
      else yield [];
    }
}

/** Reads the messages that the user imported, ordered by conversation and `seq`. */
export async function* readImportedMessages(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  const columns = sql`x.id, x.conversation_id, x.seq, x.role, x.content, x.model, x.parent_id, x.created_at, x.updated_at,
    x.deleted_at`;
  let afterConversationId = NIL_UUID;
  for (;;) {
    const conversations = await sql<{ conversation_id: string }[]>`
      select distinct conversation_id from import_sources
      where user_id = ${userId} and conversation_id > ${afterConversationId} order by conversation_id limit ${BATCH_ROWS}`;
    for (const { conversation_id } of conversations)
      for await (const positions of listImportedPositionsIn(sql, userId, conversation_id))
        yield* readMessagesAt(sql, positions, columns);
    if (conversations.length < BATCH_ROWS) return;
    afterConversationId = conversations.at(-1)?.conversation_id ?? afterConversationId;
  }
}

async function* listImportedPositionsIn(sql: Sql, userId: string, conversationId: string): AsyncGenerator<Position[]> {
  for (let afterSeq = 0; ; ) {
    const rows = await sql<Position[]>`
      select conversation_id, seq from messages
      where conversation_id = ${conversationId} and seq > ${afterSeq} and supplied_by = ${userId}
      order by seq limit ${POSITIONS_MAX}`;
    if (rows.length > 0) yield rows;
    if (rows.length < POSITIONS_MAX) return;
    afterSeq = rows.at(-1)?.seq ?? afterSeq;
  }
}

/**
 * Lists the positions of messages that the user wrote. They are read from the author index, so the cost depends only on the number of
 * these messages.
 */
async function* listWrittenPositions(sql: Sql, userId: string): AsyncGenerator<Position[]> {
  let afterConversationId = NIL_UUID;
  for (;;) {
    const rows = await sql<Position[]>`
      select conversation_id, seq from messages where author_id = ${userId} and conversation_id > ${afterConversationId}
      order by conversation_id limit ${POSITIONS_MAX}`;
    const lastConversationId = rows.at(-1)?.conversation_id;
    if (lastConversationId === undefined) return;
    const isLastBatch = rows.length < POSITIONS_MAX;
    // The last conversation may have more rows. It is left for the next batch, or read separately if it fills this batch.
    const completeRows = isLastBatch
      ? rows
      : rows.filter(({ conversation_id }) => conversation_id !== lastConversationId);
    if (completeRows.length > 0) yield completeRows.sort(comparePositions);
    else yield* listWrittenPositionsIn(sql, userId, lastConversationId);
    if (isLastBatch) return;
    afterConversationId = completeRows.at(-1)?.conversation_id ?? lastConversationId;
  }
}

/**
 * Like `listWrittenPositions`, but for one conversation. The index is ordered by `client_message_id`, so each statement sorts all of the
 * user's rows in the conversation. Large batches keep the number of statements low. Postgres returns each batch as one string,
 * because an object per row would take fifty times the memory.
 */
async function* listWrittenPositionsIn(sql: Sql, userId: string, conversationId: string): AsyncGenerator<Position[]> {
  let afterSeq = 0;
  for (;;) {
    const [row] = await sql<{ seqs: string | null }[]>`
      with written as materialized (
        select seq from messages where author_id = ${userId} and conversation_id = ${conversationId}),
      next as (select seq from written where seq > ${afterSeq} order by seq limit ${LARGE_CONVERSATION_POSITIONS_MAX})
      select string_agg(seq::text, ',' order by seq) as seqs from next`;
    if (!row?.seqs) return;
    const seqs = row.seqs.split(",").map(Number);
    for (let from = 0; from < seqs.length; from += POSITIONS_MAX)
      yield seqs.slice(from, from + POSITIONS_MAX).map((seq) => ({ conversation_id: conversationId, seq }));
    if (seqs.length < LARGE_CONVERSATION_POSITIONS_MAX) return;
    afterSeq = seqs.at(-1) ?? afterSeq;
  }
}

const comparePositions = (a: Position, b: Position): number =>
  a.conversation_id === b.conversation_id ? a.seq - b.seq : a.conversation_id < b.conversation_id ? -1 : 1;

async function findAnswers(sql: Sql, userId: string, questions: Position[]): Promise<Position[]> {
  // If `requested_by` is missing, the message's author requested the answer together with the message.
  return sql<Position[]>`
    select x.conversation_id, x.seq
    from ${unnestPositions(sql, questions)}
    cross join lateral (
      select m.id from messages m where m.conversation_id = p.conversation_id and m.seq = p.seq limit 1
    ) asked
    cross join lateral (
      select a.conversation_id, a.seq, a.metadata ->> 'requested_by' as requested_by from messages a
      where a.conversation_id = p.conversation_id and a.parent_id = asked.id and a.role = 'assistant' and a.supplied_by is null
    ) x
    where coalesce(x.requested_by, ${userId}) = ${userId}
      or exists (select 1 from members m where m.conversation_id = x.conversation_id and m.user_id = ${userId})
    order by p.n, x.seq`;
}

const unnestPositions = (sql: Sql, positions: Position[]) => sql`
  unnest(${positions.map((position) => position.conversation_id)}::uuid[], ${positions.map(({ seq }) => seq)}::bigint[])
    with ordinality p (conversation_id, seq, n)`;

/** Reads the messages at these positions, except deleted ones. */
async function* readMessagesAt(
  sql: Sql,
  positions: Position[],
  columns: PendingQuery<Row[]>,
): AsyncGenerator<ExportedRow[]> {
  for (let from = 0; from < positions.length; ) {
    const batch = positions.slice(from, from + BATCH_ROWS);
    const rows = await sql<(ExportedRow & MeasuredRow & { n: number })[]>`
      select x.n, x.bytes_before, ${columns} from (
        select p.n::int, x.*, ${selectTextSizes(sql, sql`p.n`)}
        from ${unnestPositions(sql, batch)}
        cross join lateral (
          select * from current_messages c where c.conversation_id = p.conversation_id and c.seq = p.seq limit 1
        ) x
      ) x
      where x.bytes_before_last <= ${READ_BYTES_MAX} order by x.n`;
    const fittingRows = rows.filter(({ bytes_before }) => bytes_before <= READ_BYTES_MAX);
    if (fittingRows.length > 0) yield fittingRows.map(({ n: _n, bytes_before: _bytes, ...row }) => row);
    from += fittingRows.length < rows.length ? (fittingRows.at(-1)?.n ?? 1) : batch.length;
  }
}
