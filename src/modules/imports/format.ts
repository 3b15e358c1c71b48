import type { Fields } from "../../ai/fields.ts";
import type { ImportSource } from "./model.ts";
import type { Omissions } from "./omissions.ts";
import type { SourceNode } from "./tree.ts";

/** A node of a conversation, as it is in the file. */
type NodeInput = {
  /** Its id, or its index. */
  key: string;
  value: unknown;
  omissions: Omissions;
  /** Later times are invalid. */
  nowMs: number;
  /** The previous node in the file. */
  previousId: string | null;
};

/** Unchecked fields of a conversation in the file, without its messages. */
export type ConversationFields = {
  id: unknown;
  title: unknown;
  createdAt: unknown;
  updatedAt: unknown;
  currentId: string | null;
  /** The model of responses that don't name their own. */
  model: unknown;
};

/** The export format of one source. */
export type Format = {
  source: ImportSource;
  /** Its display name. */
  label: string;
  /** The field that contains a conversation's messages. */
  nodesField: "mapping" | "chat_messages";
  readNode(input: NodeInput): SourceNode;
  readConversation(fields: Fields): ConversationFields;
};
