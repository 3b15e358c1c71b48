import { type Static, Type } from "@sinclair/typebox";
import { Named, OneOf, Timestamp } from "../../lib/schema.ts";
import { Conversation } from "../../protocol/conversation.ts";
import { Message } from "../../protocol/message.ts";

export const ExportFormat = OneOf(["markdown", "json", "jsonl"], {
  description: "`markdown` (default) for reading, `json` as one object, `jsonl` with one object per line.",
});
export type ExportFormat = Static<typeof ExportFormat>;

/** An export in the format `json`. In `jsonl`, the first line is the conversation and each further line is a message. */
export const ConversationExport = Named(
  "ConversationExport",
  Type.Object({ exported_at: Timestamp(), conversation: Conversation, messages: Type.Array(Message) }),
);
