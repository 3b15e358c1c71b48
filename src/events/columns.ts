import type { Sql } from "../db/client.ts";

/** Selects the columns of a `MessageRow` from the view `current_messages` as `x`. */
export const messageColumns = (sql: Sql) => sql`
  x.content, x.reasoning, x.output, ${otherMessageColumns(sql)}`;

/** Selects the columns of a `MessageRow` with the content cut to `chars` characters, and without an output that is longer. */
export const shortMessageColumns = (sql: Sql, chars: number) => sql`
  left(x.content, ${chars}::integer) as content, left(x.reasoning, ${chars}::integer) as reasoning,
  case when octet_length(x.output::text) <= ${chars}::integer then x.output end as output, ${otherMessageColumns(sql)}`;

const otherMessageColumns = (sql: Sql) => sql`
  x.id, x.conversation_id, x.seq, x.role, x.author_id, x.author_name, x.status, x.model, x.finish_reason,
  x.input_tokens, x.output_tokens, x.cached_input_tokens, x.reasoning_tokens, x.cost_usd, x.parent_id, x.client_message_id,
  x.hook_id, x.hook_name, x.supplied, x.error_code, x.error_detail, x.metadata, x.created_at, x.updated_at, x.deleted_at`;

/** Selects the columns of a `ConversationRow` from the table `conversations` as `c`. */
export const conversationColumns = (sql: Sql) =>
  sql`c.id, c.title, c.kind, c.model, c.prompt_id, c.reply_mode, uses_documents(c.documents, c.metadata) as documents,
    chosen_tools(c.tools, c.metadata) as tools, c.reasoning_effort, c.metadata, c.last_seq, c.created_at, c.updated_at`;

/** Maximum unread count. Users don't need exact counts above a thousand. */
export const UNREAD_SHOWN_MAX = 1_000;
/**
 * Maximum number of messages after the read position that are checked for deletion. If there are more, the unread count is
 * `UNREAD_SHOWN_MAX`, even if most of them are deleted.
 */
export const COUNTED_MAX = 3_000;

/**
 * Selects a member's (`m`) number of unread messages in a conversation (`c`): the difference of two counters minus the deleted
 * messages. A member's own messages don't count, because sending a message moves the read position.
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
