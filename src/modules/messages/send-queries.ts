import type { Sql } from "../../db/client.ts";
import type { ReasoningEffort } from "../../protocol/reasoning-effort.ts";
import type { ReplyFormat } from "../../protocol/reply-format.ts";
import type { BudgetRules, Period } from "../budgets/service.ts";

/** An incoming hook, under the name that the message is to have. */
export type Integration = { hookId: string; displayName: string };

/** What a message says of the answers to it, as it is stored; absent fields: nothing. */
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
  /** The API key that it is sent with, whose budget counts then. */
  keyId: string | null;
  /** The incoming hook that posts it in the name of its creator, who is `authorId` then; null: the user has sent it. */
  integration: Integration | null;
  /** Null: it says nothing of its answers. */
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
  /** The period whose budget does not suffice. */
  exceeded: Period | null;
  /** What the answer is made from, for whoever writes it; null when it is to be read apart. */
  context: unknown;
};

/** The right to write the answers of a batch, for the instance that sends it. */
export type Lease = {
  owner: string;
  leaseMs: number;
  /** What of the answers' contexts is read with the commit; null: nothing. See read_message_context (sql/functions). */
  context: ContextLimits | null;
  /** To be called when the answers have begun, or will not. */
  end(): void;
};

/** A context is left out where the answer's number is above `seqMax`, or its messages have more bytes. */
type ContextLimits = { rows: number; seqMax: number; bytesMax: number };

export type SendRules = {
  defaultModel: string;
  /** Null: nothing is limited. */
  budget: BudgetRules | null;
  /** Null: the answers wait for whoever claims them. */
  lease: Omit<Lease, "end"> | null;
  /** Whether conversations that are locked are waited for; otherwise their items are left out. */
  waits: boolean;
};

/** Writes a batch of sends in one transaction (sql/functions/send_messages.sql); one outcome per item, in order. */
export async function sendMessages(sql: Sql, items: SendItem[], rules: SendRules): Promise<SendOutcome[]> {
  const { defaultModel, budget, lease, waits } = rules;
  // One text for the whole batch: an array for each column costs the driver much more. Nulls are left out.
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
