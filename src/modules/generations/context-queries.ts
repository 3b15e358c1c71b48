import type { Sql } from "../../db/client.ts";
import type { ConversationTools } from "../../protocol/conversation.ts";
import type { ReasoningEffort } from "../../protocol/reasoning-effort.ts";

/** Summaries of one conversation that are kept; branches have their own. */
const SUMMARIES_MAX = 50;

export type StoredSummary = { id: string; content: string };

/** What a context is made of beside the messages. */
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

/** The setting, and the newest rows of the path with it: one look at the database is half of two. */
export type FoundContext = ContextSetting & { newest: HistoryRow[] };

/** `userId` asks; the path leads to `fromId`, or to the newest message. Undefined when the conversation is gone. */
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

/** Whoever asks without a conversation: only their own name and preferences. */
export async function findAsker(
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
  /** Null if models are not shown it. */
  content: string | null;
  /** Of the whole text, also where `content` is an excerpt. */
  content_bytes: number;
  updated_at: Date;
  /** Stands for this message and all before it on its path. */
  summary: StoredSummary | null;
  /** Of the last row: the number from which the path goes on; null at its end. */
  continue_at: number | null;
};
/** What a context needs of a row; names of users only in a group, of integrations everywhere. */
export type HistoryRow = Pick<PathRow, "role" | "author_name" | "content" | "summary" | "continue_at">;

/** Rows of the first look at the database, and of each further one: two of them have a few more than a context may have. */
export const FIRST_PATH_ROWS = 100;
const PATH_ROWS = 950;
/** Bytes of text that one look reads, plus one message: about as much as a default context takes. */
const PATH_BYTES = 256 * 1024;

/**
 * The messages that lead to the newest one up to a number, newest first, and what is needed to go on from the last of them
 * (sql/functions/list_path.sql).
 */
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

/** The same for a summary; of longer texts only so many characters are read, from both ends; 0: no texts. */
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
  /** The newest message that it covers, and that one's number. */
  messageId: string;
  untilSeq: number;
  content: string;
  model: string;
  usage: { input_tokens: number; output_tokens: number } | null;
  costUsd: number | null;
  /** What it was made from: these messages as they were then, and the summary before it. */
  covered: Pick<PathRow, "seq" | "updated_at">[];
  previousId: string | null;
};

/**
 * Stores a summary, if all that it was made from is still so. Run it in a transaction: the conversation's row, which every
 * change of a message takes first, keeps such changes out until the end of it.
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
          -- In milliseconds, which is what this process knows of it.
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
