import { type Static, Type } from "@sinclair/typebox";
import { Closed, Line, Named, Nullable, Text, Timestamp, Uuid, UuidParam } from "../../lib/schema.ts";
import {
  CLIENT_MESSAGE_ID_CHARS_MAX,
  CONTENT_CHARS_MAX,
  MODEL_CHARS_MAX,
  ReplySettings,
} from "../../protocol/frames.ts";
import { Message } from "../../protocol/message.ts";

export const COMMENT_CHARS_MAX = 2_000;

/** Path parameters of a message. */
export const MessageParams = Type.Object({ id: UuidParam(), message_id: UuidParam() });

const Content = Text({ minLength: 1, maxLength: CONTENT_CHARS_MAX });

export const SendMessage = Named(
  "SendMessage",
  Closed({
    content: Content,
    client_message_id: Type.Optional(Nullable(Line({ minLength: 1, maxLength: CLIENT_MESSAGE_ID_CHARS_MAX }))),
    reply: Type.Optional(
      Nullable(Type.Boolean(), { description: "Whether a model answers. If absent or null, `reply_mode` decides." }),
    ),
    model: Type.Optional(Nullable(Line({ minLength: 1, maxLength: MODEL_CHARS_MAX }))),
    parent_id: Type.Optional(Nullable(Uuid())),
    ...ReplySettings,
  }),
);
export type SendMessage = Static<typeof SendMessage>;

/** The stored message, and the model's answer if one was requested. The answer is empty, and its status is `streaming`. */
export const SentMessage = Named("SentMessage", Type.Object({ message: Message, reply: Nullable(Message) }));
export type SentMessage = Static<typeof SentMessage>;

export const EditMessage = Named("EditMessage", Closed({ content: Content }));

export const GiveFeedback = Named(
  "GiveFeedback",
  Closed({
    rating: Type.Union([Type.Literal(1), Type.Literal(-1)]),
    comment: Type.Optional(Text({ maxLength: COMMENT_CHARS_MAX })),
  }),
);
export type GiveFeedback = Static<typeof GiveFeedback>;

export const Feedback = Named(
  "Feedback",
  Type.Object({
    message_id: Uuid(),
    rating: Type.Integer({ minimum: -1, maximum: 1 }),
    comment: Nullable(Type.String()),
    updated_at: Timestamp(),
  }),
);
export type Feedback = Static<typeof Feedback>;
