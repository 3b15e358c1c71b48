import { type Static, Type } from "@sinclair/typebox";
import { Closed, Line, Nullable, OneOf, Text, Timestamp, Uuid } from "../../lib/schema.ts";
import { CLIENT_MESSAGE_ID_CHARS_MAX, CONTENT_CHARS_MAX, MODEL_CHARS_MAX } from "../../realtime/frames.ts";

export const COMMENT_CHARS_MAX = 2_000;

export const MessageRole = OneOf(["system", "user", "assistant", "tool"]);
export const MessageStatus = OneOf(["complete", "streaming", "cancelled", "failed"]);
export const FinishReason = OneOf(["stop", "length", "tool_calls", "content_filter", "cancelled", "error"]);
export type FinishReason = Static<typeof FinishReason>;

export const MessageUsage = Type.Object({
  input_tokens: Type.Integer(),
  output_tokens: Type.Integer(),
  cost_usd: Nullable(Type.Number()),
});
export type MessageUsage = Static<typeof MessageUsage>;

export const Message = Type.Object({
  id: Uuid(),
  conversation_id: Uuid(),
  seq: Type.Integer(),
  role: MessageRole,
  author: Nullable(Type.Object({ id: Uuid(), display_name: Type.String() })),
  content: Type.String(),
  status: MessageStatus,
  model: Nullable(Type.String()),
  finish_reason: Nullable(FinishReason),
  usage: Nullable(MessageUsage),
  parent_id: Nullable(Uuid()),
  client_message_id: Nullable(Type.String()),
  error: Nullable(Type.Object({ code: Type.String(), detail: Type.String() })),
  metadata: Type.Record(Type.String(), Type.Unknown(), {
    description: "Of an answer: `models`, those that wrote it, in order; `sources`, the documents it was given.",
  }),
  created_at: Timestamp(),
  updated_at: Timestamp(),
  deleted_at: Nullable(Timestamp()),
});
export type Message = Static<typeof Message>;

const Content = Text({ minLength: 1, maxLength: CONTENT_CHARS_MAX });

export const SendMessage = Closed({
  content: Content,
  client_message_id: Type.Optional(Nullable(Line({ minLength: 1, maxLength: CLIENT_MESSAGE_ID_CHARS_MAX }))),
  reply: Type.Optional(
    Nullable(Type.Boolean(), { description: "Whether a model answers. Absent or null: as `reply_mode` says." }),
  ),
  model: Type.Optional(Nullable(Line({ minLength: 1, maxLength: MODEL_CHARS_MAX }))),
  parent_id: Type.Optional(Nullable(Uuid())),
});
export type SendMessage = Static<typeof SendMessage>;

/** What a send answers: the message, and the model's answer to it (still empty, `streaming`), if there is one. */
export const SentMessage = Type.Object({ message: Message, reply: Nullable(Message) });
export type SentMessage = Static<typeof SentMessage>;

export const EditMessage = Closed({ content: Content });

export const GiveFeedback = Closed({
  rating: Type.Union([Type.Literal(1), Type.Literal(-1)]),
  comment: Type.Optional(Text({ maxLength: COMMENT_CHARS_MAX })),
});
export type GiveFeedback = Static<typeof GiveFeedback>;

export const Feedback = Type.Object({
  message_id: Uuid(),
  rating: Type.Integer({ minimum: -1, maximum: 1 }),
  comment: Nullable(Type.String()),
  updated_at: Timestamp(),
});
export type Feedback = Static<typeof Feedback>;

export const Event = Type.Object({
  type: Type.String(),
  conversation_id: Uuid(),
  seq: Type.Integer(),
  at: Timestamp(),
  data: Type.Record(Type.String(), Type.Unknown()),
});
