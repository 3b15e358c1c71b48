import type { Sql } from "../../db/client.ts";
import type { ConversationTools } from "../../protocol/conversation.ts";
import type { ReasoningEffort } from "../../protocol/reasoning-effort.ts";

/** Maximum number of summaries per conversation. Each branch of the conversation has its own summaries. */
const SUMMARIES_PER_CONVERSATION_MAX = 50;

export type StoredSummary = { id: string; content: string };

/** A context's settings and requester, without its messages. */
export type ContextSettings = {
  id: string;
  title: string;
  kind: "direct" | "group";
  titled_by: "model" | "person" | null;
  documents: boolean;
  tools: ConversationTools;
  reasoning_effort: ReasoningEffort | null;
  model: string | null;
  template: string | null;
  prompt_owner_id: string | null;
  user_id: string | null;
  display_name: string | null;
  preferences: Record<string, unknown> | null;
};

/** The data of a context, with the newest messages of its path. It is read in one query. */
export type ContextData = ContextSettings & { newest: HistoryRow[] };

/**
 * Reads a context's data. `userId` is the requester. The path ends at `fromId` or, if it is null, at the newest message. Returns undefined
 * if the conversation was deleted.
 */
export async function findContext(
  sql: Sql,
  conversationId: string,
  userId: string | null,
  fromId: string | null,
): Promise<ContextData | undefined> {
  const [row] = await sql<{ found: ContextData | null }[]>`
    select read_answer_context(${conversationId}, ${userId}, ${fromId}, ${FIRST_QUERY_ROWS}, ${QUERY_TEXT_BYTES}) as found`;
  return row?.found ?? undefined;
}

/** Finds a user's name and preferences, for requests without a conversation. */
export async function findRequester(
  sql: Sql,
  userId: string,
): Promise<Pick<ContextSettings, "user_id" | "display_name" | "preferences"> | undefined> {
  const [row] = await sql<Pick<ContextSettings, "user_id" | "display_name" | "preferences">[]>`
    select id as user_id, display_name, preferences from users where id = ${userId}`;
  return row;
}

export type PathRow = {
  id: string;
  seq: number;
  role: "system" | "user" | "assistant" | "tool";
  author_name: string | null;
  /** Null if models don't receive this message. */
  content: string | null;
  /** The size of the whole text, even if `content` is an excerpt. */
  content_bytes: number;
  updated_at: Date;
  /** The summary that replaces this message and all earlier ones on its path. */
  summary: StoredSummary | null;
  /** The `seq` at which the path continues. Set only in the last row, and null at the end of the path. */
  continue_at: number | null;
};
/** The fields of a row that a context needs. Integration names are always included, user names only in groups. */
export type HistoryRow = Pick<PathRow, "role" | "author_name" | "content" | "summary" | "continue_at">;

/** The number of rows that the first query reads. */
export const FIRST_QUERY_ROWS = 100;
/** The number of rows that each further query reads. The first two queries return slightly more messages than a context can have. */
const FURTHER_QUERY_ROWS = 950;
/** The number of bytes of text that a query reads. The last message may exceed it. A default context contains about this much text. */
const QUERY_TEXT_BYTES = 256 * 1024;

/** Reads the path that ends at a `seq`, newest first (sql/functions/list_path.sql). The last row states where the path continues. */
export async function listHistory(
  sql: Sql,
  conversationId: string,
  untilSeq: number,
  isGroup: boolean,
): Promise<HistoryRow[]> {
  return sql<HistoryRow[]>`
    select role, author_name, content, summary, continue_at
    from list_path(${conversationId}, ${untilSeq}, ${FURTHER_QUERY_ROWS}, ${QUERY_TEXT_BYTES}, ${null}, ${isGroup})`;
}

/**
 * Reads a path for a summary. Of long messages, only the first and the last `excerptChars` are read. If `excerptChars` is 0, the content
 * is omitted.
 */
export async function listPath(
  sql: Sql,
  conversationId: string,
  untilSeq: number,
  excerptChars: number,
): Promise<PathRow[]> {
  return sql<PathRow[]>`
    select id, seq, role, author_name, content, content_bytes, updated_at, summary, continue_at
    from list_path(${conversationId}, ${untilSeq}, ${FURTHER_QUERY_ROWS}, ${QUERY_TEXT_BYTES}, ${excerptChars}, true)`;
}

export type NewSummary = {
  id: string;
  conversationId: string;
  /** The newest message that the summary covers, and its `seq`. */
  messageId: string;
  untilSeq: number;
  content: string;
  model: string;
  usage: { input_tokens: number; output_tokens: number } | null;
  costUsd: number | null;
  /** The messages that were summarized, with their `updated_at` when they were read. */
  covered: Pick<PathRow, "seq" | "updated_at">[];
  /** The previous summary, which was summarized together with the messages. */
  previousId: string | null;
};

/**
 * Stores a summary, unless a message or summary that it is based on has changed. Must run in a transaction, because it locks the
 * conversation's row, which every change to a message locks first.
 */
export async function insertSummary(sql: Sql, summary: NewSummary): Promise<boolean> {
  const { id, conversationId, messageId, untilSeq, content, model, usage, costUsd, covered, previousId } = summary;
  await sql`select 1 from conversations where id = ${conversationId} for no key update`;
  const { count } = await sql`
    insert into summaries (conversation_id, until_seq, id, message_id, content, model, input_tokens, output_tokens, cost_usd)
    select ${conversationId}, ${untilSeq}, ${id}, ${messageId}, ${content}, ${model}, ${usage?.input_tokens ?? null},
      ${usage?.output_tokens ?? null}, ${costUsd}
    where not exists (
        select 1 from unnest(${covered.map((message) => message.seq)}::bigint[],
          ${covered.map((message) => message.updated_at.toISOString())}::timestamptz[]) as c (seq, updated_at)
        left join messages x on x.conversation_id = ${conversationId} and x.seq = c.seq and x.deleted_at is null
          -- Compared in milliseconds, because JavaScript has no higher precision.
          and date_trunc('milliseconds', x.updated_at) = c.updated_at
        where x.id is null)
      and (${previousId}::uuid is null or exists (
        select 1 from summaries where conversation_id = ${conversationId} and id = ${previousId}))
    on conflict (conversation_id, until_seq) do nothing`;
  await sql`
    delete from summaries where conversation_id = ${conversationId} and until_seq not in (
      select until_seq from summaries where conversation_id = ${conversationId}
      order by created_at desc, id desc limit ${SUMMARIES_PER_CONVERSATION_MAX})`;
  return count > 0;
}
