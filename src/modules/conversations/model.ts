import { type Static, Type } from "@sinclair/typebox";
import { Closed, Line, Nullable, OneOf, Timestamp, Uuid } from "../../lib/schema.ts";
import { MODEL_CHARS_MAX } from "../../realtime/frames.ts";

export const TITLE_CHARS_MAX = 200;
/** Bytes of `metadata` as JSON. */
export const METADATA_BYTES_MAX = 16 * 1024;

export const ConversationKind = OneOf(["direct", "group"]);
export const ReplyMode = OneOf(["always", "mention", "never"], {
  description: "When a model answers by itself: each message, only one that mentions @ai or @assistant, or none.",
});
export const MemberRole = OneOf(["owner", "member", "viewer"]);
const Title = Line({ maxLength: TITLE_CHARS_MAX });
const Model = Line({ minLength: 1, maxLength: MODEL_CHARS_MAX });
const Metadata = Type.Record(Type.String(), Type.Unknown(), {
  description:
    "Free JSON, 16 KiB at most. With `documents: true` models are given passages of the documents, with `tools: true` they may call tools.",
});
const PromptId = Nullable(Uuid(), { description: "One of the caller's own prompts, or null for none." });

/** What everyone in the conversation sees of it alike. */
const shared = {
  id: Uuid(),
  title: Type.String(),
  kind: ConversationKind,
  model: Nullable(Type.String()),
  prompt_id: Nullable(Uuid()),
  reply_mode: ReplyMode,
  metadata: Metadata,
  last_seq: Type.Integer(),
  created_at: Timestamp(),
  updated_at: Timestamp(),
};

export const SharedConversation = Type.Object(shared);
export type SharedConversation = Static<typeof SharedConversation>;

export const Conversation = Type.Object({
  ...shared,
  role: MemberRole,
  last_read_seq: Type.Integer(),
  unread: Type.Integer({ description: "Messages of others above the read position, counted up to 1000." }),
});
export type Conversation = Static<typeof Conversation>;

export const CreateConversation = Closed({
  title: Type.Optional(Title),
  kind: Type.Optional(ConversationKind),
  model: Type.Optional(Nullable(Model)),
  prompt_id: Type.Optional(PromptId),
  reply_mode: Type.Optional(ReplyMode),
  metadata: Type.Optional(Metadata),
});
export type CreateConversation = Static<typeof CreateConversation>;

export const ChangeConversation = Closed({
  title: Type.Optional(Title),
  model: Type.Optional(Nullable(Model)),
  prompt_id: Type.Optional(PromptId),
  reply_mode: Type.Optional(ReplyMode),
  metadata: Type.Optional(Metadata),
});
export type ChangeConversation = Static<typeof ChangeConversation>;

export const Member = Type.Object({
  user_id: Uuid(),
  display_name: Type.String(),
  role: MemberRole,
  last_read_seq: Type.Integer(),
  joined_at: Timestamp(),
});
export type Member = Static<typeof Member>;

export const AddMember = Closed({ user_id: Uuid(), role: Type.Optional(MemberRole) });
export type AddMember = Static<typeof AddMember>;
