import { type Static, Type } from "@sinclair/typebox";
import { Closed, Named, Nullable, OneOf, Timestamp, Uuid } from "../lib/schema.ts";

const MessageRole = OneOf(["system", "user", "assistant", "tool"]);
const MessageStatus = OneOf(["complete", "streaming", "cancelled", "failed"]);
export const FinishReason = OneOf(["stop", "length", "tool_calls", "content_filter", "cancelled", "error"]);
export type FinishReason = Static<typeof FinishReason>;

const MessageUsage = Named(
  "MessageUsage",
  Closed({
    input_tokens: Type.Integer({ description: "Includes failed attempts." }),
    output_tokens: Type.Integer({ description: "Includes failed attempts." }),
    cost_usd: Nullable(Type.Number()),
    cached_input_tokens: Type.Integer({
      description: "The part of `input_tokens` that was read from the provider's cache. 0 if unknown.",
    }),
    reasoning_tokens: Type.Integer({
      description: "The part of `output_tokens` that was used for reasoning. 0 if unknown.",
    }),
  }),
);
type MessageUsage = Static<typeof MessageUsage>;
/** The token counts that are stored for an answer. */
export type MessageTokens = Omit<MessageUsage, "cost_usd">;

const MessageAuthor = Named(
  "MessageAuthor",
  Closed({
    id: Uuid({ description: "The user's id, or the incoming hook's id if `kind` is `integration`." }),
    display_name: Type.String(),
    kind: OneOf(["user", "integration"], {
      description:
        "`integration` means that a program posted the message through an incoming hook, with a name that it chose.",
    }),
  }),
);
type MessageAuthor = Static<typeof MessageAuthor>;
const MessageError = Named("MessageError", Closed({ code: Type.String(), detail: Type.String() }));

export const Message = Named(
  "Message",
  Closed({
    id: Uuid(),
    conversation_id: Uuid(),
    seq: Type.Integer(),
    role: MessageRole,
    author: Nullable(MessageAuthor),
    supplied: Type.Boolean({ description: "Whether a client supplied this answer, for example in an import." }),
    content: Type.String(),
    status: MessageStatus,
    model: Nullable(Type.String()),
    finish_reason: Nullable(FinishReason),
    usage: Nullable(MessageUsage),
    parent_id: Nullable(Uuid()),
    client_message_id: Nullable(Type.String()),
    error: Nullable(MessageError),
    reasoning: Nullable(Type.String(), { description: "The model's reasoning before and during the answer." }),
    output: Type.Unknown({
      description: "The parsed answer, if `reply_format` requested one and the answer is complete; otherwise null.",
    }),
    metadata: Type.Record(Type.String(), Type.Unknown(), {
      description:
        "In an answer, `models` lists the models that wrote it, in order, and `sources` lists the documents that these models received.",
    }),
    created_at: Timestamp(),
    updated_at: Timestamp(),
    deleted_at: Nullable(Timestamp()),
  }),
);
export type Message = Static<typeof Message>;

/** A row of the view `current_messages` (sql/functions), with the name of its author. */
export type MessageRow = {
  id: string;
  conversation_id: string;
  seq: number;
  role: Message["role"];
  author_id: string | null;
  author_name: string | null;
  /** The incoming hook that posted the message. If set, `author_id` is null. */
  hook_id: string | null;
  hook_name: string | null;
  supplied: boolean;
  content: string;
  status: Message["status"];
  model: string | null;
  finish_reason: FinishReason | null;
  input_tokens: number | null;
  output_tokens: number | null;
  cached_input_tokens: number | null;
  reasoning_tokens: number | null;
  cost_usd: string | null;
  parent_id: string | null;
  client_message_id: string | null;
  error_code: string | null;
  error_detail: string | null;
  reasoning: string | null;
  output: unknown;
  metadata: Record<string, unknown>;
  created_at: Date;
  updated_at: Date;
  deleted_at: Date | null;
};

/** Maps a row to the message's author. Returns null for models, tools and deleted users. */
export function mapRowToAuthor({
  author_id,
  author_name,
  hook_id,
  hook_name,
}: Pick<MessageRow, "author_id" | "author_name" | "hook_id" | "hook_name">): MessageAuthor | null {
  if (author_id !== null)
    return author_name === null ? null : { id: author_id, display_name: author_name, kind: "user" };
  return hook_id === null ? null : { id: hook_id, display_name: hook_name ?? "", kind: "integration" };
}

export function mapRowToMessage(row: MessageRow): Message {
  const createdAt = row.created_at.toISOString();
  const hasUsage = row.input_tokens !== null && row.output_tokens !== null;
  return {
    id: row.id,
    conversation_id: row.conversation_id,
    seq: row.seq,
    role: row.role,
    author: mapRowToAuthor(row),
    supplied: row.supplied,
    content: row.content,
    status: row.status,
    model: row.model,
    finish_reason: row.finish_reason,
    usage: hasUsage
      ? {
          input_tokens: row.input_tokens ?? 0,
          output_tokens: row.output_tokens ?? 0,
          cost_usd: row.cost_usd === null ? null : Number(row.cost_usd),
          cached_input_tokens: row.cached_input_tokens ?? 0,
          reasoning_tokens: row.reasoning_tokens ?? 0,
        }
      : null,
    parent_id: row.parent_id,
    client_message_id: row.client_message_id,
    error: row.error_code === null ? null : { code: row.error_code, detail: row.error_detail ?? "" },
    reasoning: row.reasoning,
    output: row.output,
    metadata: row.metadata,
    created_at: createdAt,
    // Most messages never change, so the string is reused. Formatting timestamps takes 10% of the time to list many messages.
    updated_at: row.updated_at.getTime() === row.created_at.getTime() ? createdAt : row.updated_at.toISOString(),
    deleted_at: row.deleted_at?.toISOString() ?? null,
  };
}
