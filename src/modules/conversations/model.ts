import { type Static, Type } from "@sinclair/typebox";
import { Closed, Line, Named, Nullable, Uuid, VisibleLine } from "../../lib/schema.ts";
import {
  ConversationEffort,
  ConversationKind,
  ConversationTools,
  MemberRole,
  Metadata,
  ReplyMode,
  UsesDocuments,
} from "../../protocol/conversation.ts";
import { MODEL_CHARS_MAX } from "../../protocol/frames.ts";
import { EmailInput } from "../users/model.ts";

/** Maximum length of a title, in UTF-16 code units. */
export const TITLE_CHARS_MAX = 200;
/** Maximum size of `metadata` as JSON, in bytes. */
export const METADATA_BYTES_MAX = 16 * 1024;

const Title = VisibleLine({ maxLength: TITLE_CHARS_MAX });
const Model = Line({ minLength: 1, maxLength: MODEL_CHARS_MAX });
const PromptId = Nullable(Uuid(), { description: "One of your own prompts, or null for none." });

export const CreateConversation = Named(
  "CreateConversation",
  Closed({
    title: Type.Optional(Title),
    kind: Type.Optional(ConversationKind),
    model: Type.Optional(Nullable(Model)),
    prompt_id: Type.Optional(PromptId),
    reply_mode: Type.Optional(ReplyMode),
    documents: Type.Optional(UsesDocuments),
    tools: Type.Optional(ConversationTools),
    reasoning_effort: Type.Optional(ConversationEffort),
    metadata: Type.Optional(Metadata),
  }),
);
export type CreateConversation = Static<typeof CreateConversation>;

export const ChangeConversation = Named(
  "ChangeConversation",
  Closed({
    title: Type.Optional(Title),
    model: Type.Optional(Nullable(Model)),
    prompt_id: Type.Optional(PromptId),
    reply_mode: Type.Optional(ReplyMode),
    documents: Type.Optional(UsesDocuments),
    tools: Type.Optional(ConversationTools),
    reasoning_effort: Type.Optional(ConversationEffort),
    metadata: Type.Optional(Metadata),
  }),
);
export type ChangeConversation = Static<typeof ChangeConversation>;

export const AddMember = Named(
  "AddMember",
  Closed({
    user_id: Type.Optional(Uuid()),
    email: Type.Optional(
      Type.String({
        ...EmailInput,
        description: "The user's exact email address, instead of `user_id`. Case-insensitive.",
      }),
    ),
    role: Type.Optional(MemberRole),
  }),
);
export type AddMember = Static<typeof AddMember>;
