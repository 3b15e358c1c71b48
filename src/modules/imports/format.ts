import type { Fields } from "../../ai/fields.ts";
import type { LeftOut } from "./left-out.ts";
import type { ImportSource } from "./model.ts";
import type { SourceNode } from "./tree.ts";

/** A node of a conversation, as the file has it. */
type NodeInput = {
  /** Its name or its place among the others. */
  key: string;
  value: unknown;
  leftOut: LeftOut;
  /** Later times are none. */
  nowMs: number;
  /** The node before it in the file. */
  previousId: string | null;
};

/** Unchecked fields of a conversation in the file, without its messages. */
export type ConversationFields = {
  id: unknown;
  title: unknown;
  createdAt: unknown;
  updatedAt: unknown;
  currentId: string | null;
  /** Of answers that don't name their own. */
  model: unknown;
};

/** How one source writes its conversations. */
export type Format = {
  source: ImportSource;
  /** Its name, for people. */
  label: string;
  /** The field in which a conversation has its messages. */
  nodesField: "mapping" | "chat_messages";
  readNode(input: NodeInput): SourceNode;
  readConversation(fields: Fields): ConversationFields;
};
