import type { Sql } from "../../db/client.ts";

/** Summaries of one conversation that are looked at; branches have their own. */
const SUMMARIES_MAX = 50;

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

/**
 * The setting, and the newest rows of the path with it: a reader waits for this look at the database, and one is half of
 * two. `userId` asks; the path leads to `fromId`, or to the newest message. Undefined when the conversation is gone.
 */
export async function findSetting(
  sql: Sql,
  conversationId: string,
  userId: string | null,
  fromId: string | null,
): Promise<(ContextSetting & { newest: PathRow[] }) | undefined> {
  const from = fromId === null ? { seq: Number.MAX_SAFE_INTEGER } : { id: fromId };
  const [row] = await sql<(ContextSetting & { newest: PathRow[] })[]>`
    select coalesce((select json_agg(x) from (${pathRows(sql, conversationId, from)}) x), '[]') as newest, c.id, c.title, c.kind, c.titled_by, c.metadata, c.model, v.template, p.user_id as prompt_owner_id,
      u.id as user_id, u.display_name, u.preferences,
      coalesce((
        select jsonb_agg(jsonb_build_object('id', s.id, 'message_id', s.message_id, 'content', s.content))
        from (select * from summaries where conversation_id = c.id order by until_seq desc limit ${SUMMARIES_MAX}) s
      ), '[]') as summaries
    from conversations c
    left join prompts p on p.id = c.prompt_id
    left join prompt_versions v on v.prompt_id = p.id and v.version = p.version
    left join users u on u.id = ${userId}
    where c.id = ${conversationId}`;
  return row;
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

/** The message with which a path begins, or the number. */
type PathStart = { id: string } | { seq: number };

/** Messages up to this one, newest first, with what is needed to follow a branch. */
export async function listPathRows(sql: Sql, conversationId: string, from: PathStart): Promise<PathRow[]> {
  return sql<PathRow[]>`${pathRows(sql, conversationId, from)}`;
}

function pathRows(sql: Sql, conversationId: string, from: PathStart) {
  const seq = "id" in from ? sql`(select seq from messages where id = ${from.id})` : sql`${from.seq}::bigint`;
  return sql`
    select x.id, x.seq, x.role, u.display_name as author_name, x.content, x.parent_id, p.seq as parent_seq,
      case when x.role = 'assistant' and x.seq > p.seq + 1 then (
        select min(s.seq) from messages s where s.parent_id = x.parent_id and s.role = 'assistant') end as first_answer_seq,
      x.deleted_at is null and x.content <> '' and x.status in ('complete', 'cancelled')
        and x.role in ('system', 'user', 'assistant') as is_shown
    from messages x
    left join messages p on p.id = x.parent_id
    left join users u on u.id = x.author_id
    where x.conversation_id = ${conversationId} and x.seq <= ${seq}
    order by x.seq desc limit ${PATH_ROWS}`;
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
  covered: { id: string; content: string }[];
  previousId: string | null;
};

/**
 * Stores a summary, if all that it was made from is still so. Run it in a transaction: the conversation's row, which every
 * change of a message takes first, keeps such changes out until the end of it.
 */
export async function insertSummary(sql: Sql, summary: NewSummary): Promise<boolean> {
  const { id, conversationId, messageId, untilSeq, content, model, usage, costUsd, covered, previousId } = summary;
  await sql`select 1 from conversations where id = ${conversationId} for update`;
  const { count } = await sql`
    insert into summaries (id, conversation_id, message_id, until_seq, content, model, input_tokens, output_tokens, cost_usd)
    select ${id}, ${conversationId}, ${messageId}, ${untilSeq}, ${content}, ${model}, ${usage?.input_tokens ?? null},
      ${usage?.output_tokens ?? null}, ${costUsd}
    where not exists (
        select 1 from unnest(${covered.map((message) => message.id)}::uuid[],
          ${covered.map((message) => message.content)}::text[]) as c (id, content)
        left join messages x on x.id = c.id and x.deleted_at is null and x.content = c.content
        where x.id is null)
      and (${previousId}::uuid is null or exists (select 1 from summaries where id = ${previousId}))
    on conflict (message_id) do nothing`;
  await sql`
    delete from summaries where conversation_id = ${conversationId} and id not in (
      select id from summaries where conversation_id = ${conversationId}
      order by created_at desc, id desc limit ${SUMMARIES_MAX})`;
  return count > 0;
}
