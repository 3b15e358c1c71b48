import type { Sql } from "../../db/client.ts";
import type { ReasoningEffort } from "../../protocol/reasoning-effort.ts";
import type { ReplyFormat } from "../../protocol/reply-format.ts";
import type { BudgetRules, Period } from "../budgets/service.ts";

/** An incoming hook, with the display name for its message. */
export type Integration = { hookId: string; displayName: string };

/** The options that a message stores for its answers; unset fields are absent. */
export type ReplyOptions = { reasoning_effort?: ReasoningEffort; reply_format?: ReplyFormat };

/** A validated message that is committed in a batch with others. */
export type SendItem = {
  id: string;
  conversationId: string;
  authorId: string;
  clientMessageId: string | null;
  content: string;
  parentId: string | null;
  reply: boolean | null;
  mentionsAssistant: boolean;
  model: string | null;
  answerId: string;
  generationId: string;
  /** The API key that was used, whose budget also applies; null for a session. */
  keyId: string | null;
  /** The incoming hook that sends the message on behalf of its creator `authorId`; null if the user sends it. */
  integration: Integration | null;
  /** Null if there are no options. */
  replyOptions: ReplyOptions | null;
};

export type SendOutcome = {
  outcome:
    | "created"
    | "locked"
    | "item_locked"
    | "duplicate"
    | "not_found"
    | "forbidden"
    | "no_parent"
    | "budget_exceeded";
  message_id: string | null;
  seq: number | null;
  answer_seq: number | null;
  answer_model: string | null;
  at: Date;
  /** The period whose budget is exceeded. */
  exceeded: Period | null;
  /** The messages that the model needs to write the answer; null if they must be read separately. */
  context: unknown;
};

/** The instance's lease on the answers to a batch. */
export type Lease = {
  owner: string;
  leaseMs: number;
  /**
   * Limits for reading the answers' contexts in the same statement (sql/functions/read_message_context.sql). If null, no contexts
   * are read.
   */
  context: ContextLimits | null;
  /** Call this when the answers have started or won't be started. */
  release(): void;
};

/** A context is not read if the answer's `seq` is greater than `seqMax`, or the messages have more than `bytesMax` bytes. */
type ContextLimits = { rowsMax: number; seqMax: number; bytesMax: number };

export type SendRules = {
  defaultModel: string;
  /** Null if there are no budgets. */
  budget: BudgetRules | null;
  /** Null if this instance doesn't claim the answers. */
  lease: Omit<Lease, "release"> | null;
  /** Whether to wait for locked conversations. Otherwise their items are skipped. */
  shouldWait: boolean;
};

/**
 * Stores a batch of messages in one transaction (sql/functions/send_messages.sql). Returns an outcome for each item, in order.
 */
export async function sendMessages(sql: Sql, items: SendItem[], rules: SendRules): Promise<SendOutcome[]> {
  const { defaultModel, budget, lease, shouldWait } = rules;
  // The driver encodes one JSON string much faster than an array per column.
  const input = items.map((item) => ({
    id: item.id,
    conversation: item.conversationId,
    author: item.authorId,
    client_id: item.clientMessageId ?? undefined,
    content: item.content,
    parent: item.parentId ?? undefined,
    reply: item.reply ?? undefined,
    mentioned: item.mentionsAssistant,
    model: item.model ?? undefined,
    answer_id: item.answerId,
    generation_id: item.generationId,
    api_key: item.keyId ?? undefined,
    hook: item.integration?.hookId,
    hook_name: item.integration?.displayName,
    options: item.replyOptions ?? undefined,
  }));
  const conversations = [...new Set(items.map((item) => item.conversationId))];
  const { seqMax, rowsMax, bytesMax } = lease?.context ?? { seqMax: 0, rowsMax: 0, bytesMax: 0 };
  return sql<SendOutcome[]>`
    select outcome, message_id, seq, answer_seq, answer_model, at, exceeded,
      case when answer_seq <= ${seqMax} then read_message_context(conversation_id, answer_seq - 1, ${rowsMax}, ${bytesMax}) end as context
    from send_messages(${JSON.stringify(input)}::text::json, ${conversations}::uuid[], ${defaultModel},
      ${budget && sql.json(budget)}, ${lease?.owner ?? null}, ${lease?.leaseMs ?? null}, ${shouldWait})
    order by n`;
}
