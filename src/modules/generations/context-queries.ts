import type { Sql } from "../../db/client.ts";
import type { ConversationTools } from "../../protocol/conversation.ts";
import type { ReasoningEffort } from "../../protocol/reasoning-effort.ts";

/** Maximum summaries kept per conversation; each branch has its own summaries. */
const SUMMARIES_MAX = 50;

export type StoredSummary = { id: string; content: string };

/** The parts of a context besides the messages. */
export type ContextSetting = {
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

/** The parts of a context with the newest messages of the path, read in one query. */
export type FoundContext = ContextSetting & { newest: HistoryRow[] };

/**
 * Reads a context. `userId` is the requester. The path leads to `fromId`, or to the newest message. Undefined if the
 * conversation is gone.
 */
export async function findContext(
  sql: Sql,
  conversationId: string,
  userId: string | null,
  fromId: string | null,
): Promise<FoundContext | undefined> {
  const [row] = await sql<{ found: FoundContext | null }[]>`
    select read_answer_context(${conversationId}, ${userId}, ${fromId}, ${FIRST_PATH_ROWS}, ${PATH_BYTES}) as found`;
  return row?.found ?? undefined;
}

/** Returns a user's name and preferences, for requests without a conversation. */
export async function findRequester(
  sql: Sql,
  userId: string,
): Promise<Pick<ContextSetting, "user_id" | "display_name" | "preferences"> | undefined> {
  const [row] = await sql<Pick<ContextSetting, "user_id" | "display_name" | "preferences">[]>`
    select id as user_id, display_name, preferences from users where id = ${userId}`;
  return row;
}

export type PathRow = {
  id: string;
  seq: number;
  role: "system" | "user" | "assistant" | "tool";
  author_name: string | null;
  /** Null if models don't see this message. */
  content: string | null;
  /** Size of the whole text, even if `content` is an excerpt. */
  content_bytes: number;
  updated_at: Date;
  /** Replaces this message and all earlier ones on its path. */
  summary: StoredSummary | null;
  /** Only in the last row: the `seq` at which the path continues; null at its end. */
  continue_at: number | null;
};
/** The fields of a row that a context needs. User names are only included in groups, integration names always. */
export type HistoryRow = Pick<PathRow, "role" | "author_name" | "content" | "summary" | "continue_at">;

/** Rows read by the first query. */
export const FIRST_PATH_ROWS = 100;
/** Rows read by each further query. The first two queries return slightly more messages than a context may contain. */
const PATH_ROWS = 950;
/** Bytes of text that one query reads, plus at most one message: about the size of a default context. */
const PATH_BYTES = 256 * 1024;

/** Reads the path to a `seq`, newest first, with what is needed to continue (sql/functions/list_path.sql). */
export async function listHistory(
  sql: Sql,
  conversationId: string,
  untilSeq: number,
  isGroup: boolean,
): Promise<HistoryRow[]> {
  return sql<HistoryRow[]>`
    select role, author_name, content, summary, continue_at
    from list_path(${conversationId}, ${untilSeq}, ${PATH_ROWS}, ${PATH_BYTES}, ${null}, ${isGroup})`;
}

/** Like `listHistory`, for a summary. Longer texts are shortened to `excerptChars` from their start and end; 0: no texts. */
export async function listPath(
  sql: Sql,
  conversationId: string,
  untilSeq: number,
  excerptChars: number,
): Promise<PathRow[]> {
  return sql<PathRow[]>`
    select id, seq, role, author_name, content, content_bytes, updated_at, summary, continue_at
    from list_path(${conversationId}, ${untilSeq}, ${PATH_ROWS}, ${PATH_BYTES}, ${excerptChars}, true)`;
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
  /** The sources: these messages as they were when they were read, and the previous summary. */
  covered: Pick<PathRow, "seq" | "updated_at">[];
  previousId: string | null;
};

/**
 * Stores a summary if none of its sources has changed. Must run in a transaction: it locks the conversation's row, which
 * every change to a message locks first.
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
          -- In milliseconds, the precision known to this process.
          and date_trunc('milliseconds', x.updated_at) = c.updated_at
        where x.id is null)
      and (${previousId}::uuid is null or exists (
        select 1 from summaries where conversation_id = ${conversationId} and id = ${previousId}))
    on conflict (conversation_id, until_seq) do nothing`;
  await sql`
    delete from summaries where conversation_id = ${conversationId} and until_seq not in (
      select until_seq from summaries where conversation_id = ${conversationId}
      order by created_at desc, id desc limit ${SUMMARIES_MAX})`;
  return count > 0;
}
