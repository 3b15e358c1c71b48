import type { Sql } from "../../db/client.ts";
import type { EventPosition } from "../../protocol/events.ts";
import type { ReasoningEffort } from "../../protocol/reasoning-effort.ts";
import type { ReplyFormat } from "../../protocol/reply-format.ts";
import type { ReplyOptions } from "../messages/service.ts";

/**
 * Returns whether an answer to a message is in progress. The result can't change while the caller's transaction has the conversation's
 * lock.
 */
export async function isBeingAnswered(sql: Sql, conversationId: string, questionId: string): Promise<boolean> {
  const rows = await sql`
    select 1 from generations g
    cross join lateral (
      select m.parent_id from messages m where m.conversation_id = g.conversation_id and m.seq = g.message_seq limit 1
    ) m
    where g.conversation_id = ${conversationId} and g.status <> 'finished' and m.parent_id = ${questionId} limit 1`;
  return rows.length > 0;
}

type Json = Parameters<Sql["json"]>[0];

export type NewAnswerRow = {
  generationId: string;
  messageId: string;
  conversationId: string;
  parentId: string;
  model: string | null;
  requestedBy: string;
  reasoningEffort: ReasoningEffort | null;
  replyFormat: ReplyFormat | null;
};

/**
 * Inserts a new, empty answer to a message, and its generation. The answer's metadata records who requested it, because the generation is
 * deleted later. Clients don't receive this metadata (sql/functions/current_messages.sql).
 */
export async function insertAnswer(sql: Sql, answer: NewAnswerRow, { seq, at }: EventPosition): Promise<void> {
  const { generationId, messageId, conversationId, parentId, model, requestedBy, reasoningEffort, replyFormat } =
    answer;
  await sql`
    with answer as (
      insert into messages (id, conversation_id, seq, role, content, status, model, parent_id, metadata, created_at, updated_at)
      values (${messageId}, ${conversationId}, ${seq}, 'assistant', '', 'streaming', ${model}, ${parentId},
        jsonb_build_object('requested_by', ${requestedBy}::text), ${at}, ${at})
    )
    insert into generations (id, message_id, message_seq, conversation_id, requested_by, model, created_at, reasoning_effort,
      reply_format)
    values (${generationId}, ${messageId}, ${seq}, ${conversationId}, ${requestedBy}, ${model}, ${at}, ${reasoningEffort},
      ${replyFormat && sql.json(replyFormat as Json)})`;
}

/** Finds the answer settings of a conversation and of the message to answer. */
export async function findAnswerSettings(
  sql: Sql,
  conversationId: string,
  questionId: string,
): Promise<{ model: string | null; reasoningEffort: ReasoningEffort | null; replyFormat: ReplyFormat | null }> {
  const [row] = await sql<
    { model: string | null; reasoning_effort: ReasoningEffort | null; options: ReplyOptions | null }[]
  >`
    select c.model, c.reasoning_effort, (
      select m.reply_options from messages m where m.conversation_id = c.id and m.id = ${questionId} limit 1
    ) as options
    from conversations c where c.id = ${conversationId}`;
  return {
    model: row?.model ?? null,
    reasoningEffort: row?.options?.reasoning_effort ?? row?.reasoning_effort ?? null,
    replyFormat: row?.options?.reply_format ?? null,
  };
}
