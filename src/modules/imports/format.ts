import type { Fields } from "../../ai/fields.ts";
import type { ImportSource } from "./model.ts";
import type { Omissions } from "./omissions.ts";
import type { SourceNode } from "./tree.ts";

/** A node of a conversation, as found in the file. */
type NodeInput = {
  /** The node's key in the file: its id, or its index in a list. */
  key: string;
  value: unknown;
  omissions: Omissions;
  /** The current time. Later times in the file are invalid. */
  nowMs: number;
  /** The id of the previous node in the file. */
  previousId: string | null;
};

/** A conversation's fields other than its messages, without validation. */
export type ConversationFields = {
  id: unknown;
  title: unknown;
  createdAt: unknown;
  updatedAt: unknown;
  currentId: string | null;
  /** The model of answers that don't specify one. */
  model: unknown;
};

/** The export format of a source. */
export type SourceFormat = {
  source: ImportSource;
  /** The source's display name. */
  label: string;
  /** The field that contains a conversation's messages. */
  nodesField: "mapping" | "chat_messages";
  parseNode(input: NodeInput): SourceNode;
  parseConversation(fields: Fields): ConversationFields;
};
