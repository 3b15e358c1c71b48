import type { Sql } from "../../db/client.ts";

/** Summaries of one conversation that are looked at; branches have their own. */
export const SUMMARIES_MAX = 50;

export type StoredSummary = { id: string; message_id: string; content: string };

/** What a context is made of beside the messages. */
export type ContextSetting = {
  id: string;
  title: string;
  kind: "direct" | "group";
  titled_by: "model" | "person" | null;
  metadata: Record<string, unknown>;
  model: string | null;
  template: string | null;
  prompt_owner_id: string | null;
  user_id: string | null;
  display_name: string | null;
  preferences: Record<string, unknown> | null;
  summaries: StoredSummary[];
};

/** The setting, and the newest rows of the path with it: one look at the database is half of two. */
export type FoundContext = ContextSetting & { newest: PathRow[] };

/** `userId` asks; the path leads to `fromId`, or to the newest message. Undefined when the conversation is gone. */
export async function findContext(
  sql: Sql,
  conversationId: string,
  userId: string | null,
  fromId: string | null,
): Promise<FoundContext | undefined> {
  const [row] = await sql<{ found: FoundContext | null }[]>`
    select answer_context(${conversationId}, ${userId}, ${fromId}, ${PATH_ROWS}, ${SUMMARIES_MAX}) as found`;
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
  content: string;
  parent_id: string | null;
  parent_seq: number | null;
  /** Of another answer to the same message: the number of the first one. */
  first_answer_seq: number | null;
  is_shown: boolean;
};

/** Rows of one look at the database. */
export const PATH_ROWS = 100;

/** Messages up to this number, newest first, with what is needed to follow a branch. */
export async function listPathRows(sql: Sql, conversationId: string, untilSeq: number): Promise<PathRow[]> {
  return sql<PathRow[]>`
    select id, seq, role, author_name, content, parent_id, parent_seq, first_answer_seq, is_shown
    from path_messages where conversation_id = ${conversationId} and seq <= ${untilSeq}
    order by seq desc limit ${PATH_ROWS}`;
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
  /** What it was made from: these texts, and the summary before it. */
  covered: { seq: number; content: string }[];
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
          ${covered.map((message) => message.content)}::text[]) as c (seq, content)
        left join messages x on x.conversation_id = ${conversationId} and x.seq = c.seq and x.deleted_at is null
          and x.content = c.content
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
