import type { Sql } from "../db/client.ts";

/** Columns of a `MessageRow`, from the view `current_messages` as `x`. */
export const messageColumns = (sql: Sql) => sql`
  x.content, x.reasoning, x.output, ${otherMessageColumns(sql)}`;

/** The same columns with only the first `chars` characters of a long text, and without a longer output. */
export const shortMessageColumns = (sql: Sql, chars: number) => sql`
  left(x.content, ${chars}::integer) as content, left(x.reasoning, ${chars}::integer) as reasoning,
  case when octet_length(x.output::text) <= ${chars}::integer then x.output end as output, ${otherMessageColumns(sql)}`;

const otherMessageColumns = (sql: Sql) => sql`
  x.id, x.conversation_id, x.seq, x.role, x.author_id, x.author_name, x.status, x.model, x.finish_reason,
  x.input_tokens, x.output_tokens, x.cached_input_tokens, x.reasoning_tokens, x.cost_usd, x.parent_id, x.client_message_id,
  x.hook_id, x.hook_name, x.supplied, x.error_code, x.error_detail, x.metadata, x.created_at, x.updated_at, x.deleted_at`;

/** Columns of a `ConversationRow`, from the table `conversations` as `c`. */
export const conversationColumns = (sql: Sql) =>
  sql`c.id, c.title, c.kind, c.model, c.prompt_id, c.reply_mode, uses_documents(c.documents, c.metadata) as documents,
    chosen_tools(c.tools, c.metadata) as tools, c.reasoning_effort, c.metadata, c.last_seq, c.created_at, c.updated_at`;

/** Exact counts above a thousand unread messages don't matter to users. */
export const UNREAD_SHOWN_MAX = 1_000;
/**
 * Messages counted one by one: those above a moving read position, and deleted ones above it. If more than two thousand
 * above it are deleted, the count may say a thousand although there are fewer.
 */
export const COUNTED_MAX = 3_000;

/**
 * Unread messages of a conversation `c` for its member `m`: the difference of two counters, minus deleted messages. A
 * member's own messages never count, since a send moves their read position.
 */
export const unreadColumn = (sql: Sql) => sql`
  case
    when c.message_count - m.read_count >= ${COUNTED_MAX} then ${UNREAD_SHOWN_MAX}
    when c.message_count > m.read_count then least(${UNREAD_SHOWN_MAX}, c.message_count - m.read_count - (
      select count(*) from (
        select 1 from messages x
        where x.conversation_id = c.id and x.seq > m.last_read_seq and x.deleted_at is not null
        order by x.seq limit ${COUNTED_MAX}) deleted))
    else 0
  end::int`;
