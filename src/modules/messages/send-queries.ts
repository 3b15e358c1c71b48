import type { Sql } from "../../db/client.ts";
import type { ReasoningEffort } from "../../protocol/reasoning-effort.ts";
import type { ReplyFormat } from "../../protocol/reply-format.ts";
import type { BudgetRules, Period } from "../budgets/service.ts";

/** An incoming hook, with the name displayed for its message. */
export type Integration = { hookId: string; displayName: string };

/** The options that a message stores for its answers; unset fields are absent. */
export type ReplyOptions = { reasoning_effort?: ReasoningEffort; reply_format?: ReplyFormat };

/** One item of a group commit. */
export type SendItem = {
  id: string;
  conversationId: string;
  authorId: string;
  clientMessageId: string | null;
  content: string;
  parentId: string | null;
  reply: boolean | null;
  isMentioned: boolean;
  model: string | null;
  answerId: string;
  generationId: string;
  /** The API key that was used, if any; its budget applies. */
  keyId: string | null;
  /** The incoming hook that posts the message on behalf of its creator, `authorId`; null if the user sent it. */
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
  /** The context for writing the answer; null if it has to be read separately. */
  context: unknown;
};

/** The sending instance's right to write a batch's answers. */
export type Lease = {
  owner: string;
  leaseMs: number;
  /**
   * Limits for reading the answers' contexts with the commit (sql/functions/read_message_context.sql); null: don't read
   * them.
   */
  context: ContextLimits | null;
  /** Call this when the answers have started or won't be started. */
  release(): void;
};

/** A context is omitted if the answer's `seq` is above `seqMax`, or the messages have more than `bytesMax` bytes. */
type ContextLimits = { rows: number; seqMax: number; bytesMax: number };

export type SendRules = {
  defaultModel: string;
  /** Null if there are no budgets. */
  budget: BudgetRules | null;
  /** Null if any instance may claim the answers. */
  lease: Omit<Lease, "release"> | null;
  /** Whether to wait for locked conversations; otherwise their items are skipped. */
  waits: boolean;
};

/**
 * Stores a batch of messages in one transaction (sql/functions/send_messages.sql); returns one outcome per item, in
 * order.
 */
export async function sendMessages(sql: Sql, items: SendItem[], rules: SendRules): Promise<SendOutcome[]> {
  const { defaultModel, budget, lease, waits } = rules;
  // One JSON string for the whole batch, because an array per column is much slower in the driver. Nulls are omitted.
  const input = items.map((item) => ({
    id: item.id,
    conversation: item.conversationId,
    author: item.authorId,
    client_id: item.clientMessageId ?? undefined,
    content: item.content,
    parent: item.parentId ?? undefined,
    reply: item.reply ?? undefined,
    mentioned: item.isMentioned,
    model: item.model ?? undefined,
    answer_id: item.answerId,
    generation_id: item.generationId,
    api_key: item.keyId ?? undefined,
    hook: item.integration?.hookId,
    hook_name: item.integration?.displayName,
    options: item.replyOptions ?? undefined,
  }));
  const conversations = [...new Set(items.map((item) => item.conversationId))];
  const { seqMax, rows, bytesMax } = lease?.context ?? { seqMax: 0, rows: 0, bytesMax: 0 };
  return sql<SendOutcome[]>`
    select outcome, message_id, seq, answer_seq, answer_model, at, exceeded,
      case when answer_seq <= ${seqMax} then read_message_context(conversation_id, answer_seq - 1, ${rows}, ${bytesMax}) end as context
    from send_messages(${JSON.stringify(input)}::text::json, ${conversations}::uuid[], ${defaultModel},
      ${budget && sql.json(budget)}, ${lease?.owner ?? null}, ${lease?.leaseMs ?? null}, ${waits})
    order by n`;
}
