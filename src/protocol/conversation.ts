import { type Static, Type } from "@sinclair/typebox";
import { Closed, Named, Nullable, OneOf, Timestamp, Uuid } from "../lib/schema.ts";
import { ReasoningEffort } from "./reasoning-effort.ts";

export const ConversationKind = OneOf(["direct", "group"]);
export const ReplyMode = OneOf(["always", "mention", "never"], {
  description: "Which messages a model answers automatically: all, those that mention @ai or @assistant, or none.",
});
export const MemberRole = OneOf(["owner", "member", "viewer"]);
export type MemberRole = Static<typeof MemberRole>;

export const Metadata = Type.Record(Type.String(), Type.Unknown(), {
  description: "Custom JSON for your client, up to 16 KiB.",
});

export const UsesDocuments = Type.Boolean({ description: "Whether models receive excerpts from the documents." });

/** Maximum number of tool names per conversation. */
const TOOLS_MAX = 64;
const TOOL_NAME_CHARS_MAX = 64;

export const ConversationTools = Type.Union(
  [
    Type.Boolean(),
    Type.Array(Type.String({ pattern: `^[a-zA-Z0-9_-]{1,${TOOL_NAME_CHARS_MAX}}$` }), {
      maxItems: TOOLS_MAX,
      uniqueItems: true,
    }),
  ],
  { description: "The tools that models may call: all, none, or those listed." },
);
export type ConversationTools = Static<typeof ConversationTools>;

export const ConversationEffort = Nullable(ReasoningEffort, {
  description: "How much models think before they respond. If null, the provider decides.",
});

/** Fields that are the same for all members. */
const sharedFields = {
  id: Uuid(),
  title: Type.String(),
  kind: ConversationKind,
  model: Nullable(Type.String()),
  prompt_id: Nullable(Uuid()),
  reply_mode: ReplyMode,
  documents: UsesDocuments,
  tools: ConversationTools,
  reasoning_effort: ConversationEffort,
  metadata: Metadata,
  last_seq: Type.Integer(),
  created_at: Timestamp(),
  updated_at: Timestamp(),
};

export const SharedConversation = Named("SharedConversation", Closed(sharedFields));
export type SharedConversation = Static<typeof SharedConversation>;

export const Conversation = Named(
  "Conversation",
  Closed({
    ...sharedFields,
    role: MemberRole,
    last_read_seq: Type.Integer(),
    unread: Type.Integer({ description: "Messages by others after your read position, counted up to 1000." }),
  }),
);
export type Conversation = Static<typeof Conversation>;

export const Member = Named(
  "Member",
  Closed({
    user_id: Uuid(),
    display_name: Type.String(),
    role: MemberRole,
    last_read_seq: Type.Integer(),
    joined_at: Timestamp(),
  }),
);
export type Member = Static<typeof Member>;

/** A former member, with their last role. */
export const FormerMember = Named(
  "FormerMember",
  Closed({ user_id: Uuid(), display_name: Type.String(), role: MemberRole }),
);
export type FormerMember = Static<typeof FormerMember>;

export type ConversationRow = Omit<SharedConversation, "created_at" | "updated_at"> & {
  created_at: Date;
  updated_at: Date;
};

export function mapRowToSharedConversation(row: ConversationRow): SharedConversation {
  return { ...row, created_at: row.created_at.toISOString(), updated_at: row.updated_at.toISOString() };
}

export type MemberRow = Omit<Member, "joined_at"> & { joined_at: Date };

export function mapRowToMember(row: MemberRow): Member {
  return { ...row, joined_at: row.joined_at.toISOString() };
}
