import { type Fields, readFields, readList } from "../../ai/fields.ts";
import type { Format } from "./format.ts";
import type { Omissions } from "./omissions.ts";
import { cleanContent, cleanLine, cleanModel, readTime, textOf } from "./texts.ts";
import type { SourceMessage } from "./tree.ts";

/**
 * Anthropic's `conversations.json`: a list of conversations, each with its messages in order (`chat_messages`). In
 * newer exports, messages refer to their parents, so there can be branches.
 */
export const claude: Format = {
  source: "claude",
  label: "Claude",
  nodesField: "chat_messages",

  readNode({ key, value, omissions, nowMs, previousId }) {
    const message = readFields(value);
    const parent = message.parent_message_uuid;
    return {
      id: textOf(message.uuid) || `#${key}`,
      parentId: typeof parent === "string" && parent !== "" ? parent : previousId,
      childIds: [],
      message: readMessage(message, omissions, nowMs),
    };
  },

  readConversation: (fields) => ({
    id: fields.uuid,
    title: fields.name,
    createdAt: fields.created_at,
    updatedAt: fields.updated_at,
    currentId: textOf(fields.current_leaf_message_uuid) || null,
    model: fields.model,
  }),
};

const rolesBySender: Readonly<Record<string, "user" | "assistant">> = {
  human: "user",
  user: "user",
  assistant: "assistant",
};

function readMessage(message: Fields, omissions: Omissions, nowMs: number): SourceMessage | null {
  const sender = textOf(message.sender ?? message.role);
  const role = Object.hasOwn(rolesBySender, sender) ? rolesBySender[sender] : undefined;
  if (role === undefined) {
    omissions.add("other");
    return null;
  }
  omissions.add("file", readList(message.files_v2 ?? message.files).length);
  const texts = [
    readBlocks(message, omissions),
    ...readList(message.attachments).map((file) => readAttachment(file, omissions)),
  ];
  const { content, isCut } = cleanContent(texts.filter((text) => text.trim() !== "").join("\n\n"));
  if (content === "") return null;
  if (isCut) omissions.addTruncated();
  const model = role === "assistant" ? cleanModel(message.model) : null;
  return { role, content, model, at: readTime(message.created_at, nowMs) };
}

/** Joins the text blocks in `content`. The field `text` repeats them, and is the only one in older exports. */
function readBlocks(message: Fields, omissions: Omissions): string {
  const texts = readList(message.content).map((block) => readBlock(readFields(block), omissions));
  const text = texts.filter((part) => part !== "").join("\n\n");
  return text === "" ? textOf(message.text) : text;
}

function readBlock(block: Fields, omissions: Omissions): string {
  switch (block.type) {
    case "text":
      return textOf(block.text);
    case "thinking":
    case "redacted_thinking":
      omissions.add("reasoning");
      return "";
    case "tool_use":
    case "tool_result":
      omissions.add("tool");
      return "";
    case "image":
      omissions.add("image");
      return "";
    default:
      if (block.type !== "token_budget" && block.type !== "flag") omissions.add("other");
      return "";
  }
}

/** Returns the text of an attached file, preceded by its name. */
function readAttachment(value: unknown, omissions: Omissions): string {
  const file = readFields(value);
  const text = textOf(file.extracted_content);
  if (text === "") {
    omissions.add("file");
    return "";
  }
  const name = cleanLine(file.file_name);
  return name === "" ? text : `${name}\n\n${text}`;
}
