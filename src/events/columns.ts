import type { Sql } from "../db/client.ts";

/** Of the view `current_messages` as `x`: what a `MessageRow` has. */
export const messageColumns = (sql: Sql) => sql`
  x.id, x.conversation_id, x.seq, x.role, x.author_id, x.author_name, x.content, x.status, x.model, x.finish_reason,
  x.input_tokens, x.output_tokens, x.cost_usd, x.parent_id, x.client_message_id, x.error_code, x.error_detail, x.metadata,
  x.created_at, x.updated_at, x.deleted_at`;

/** Of the table `conversations` as `c`: what a `ConversationRow` has. */
export const conversationColumns = (sql: Sql) =>
  sql`c.id, c.title, c.kind, c.model, c.prompt_id, c.reply_mode, c.metadata, c.last_seq, c.created_at, c.updated_at`;
