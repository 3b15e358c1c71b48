import { type Fields, readFields, readList } from "../../ai/fields.ts";
import type { Format } from "./format.ts";
import type { LeftOut } from "./omissions.ts";
import { cleanContent, cleanLine, cleanModel, readTime, textOf } from "./texts.ts";
import type { SourceMessage } from "./tree.ts";

/**
 * Anthropic's `conversations.json`: a list of conversations, each with its messages in order (`chat_messages`). In newer
 * exports messages name their parents, so there can be branches.
 */
export const claude: Format = {
  source: "claude",
  label: "Claude",
  nodesField: "chat_messages",

  readNode({ key, value, leftOut, nowMs, previousId }) {
    const message = readFields(value);
    const parent = message.parent_message_uuid;
    return {
      id: textOf(message.uuid) || `#${key}`,
      parentId: typeof parent === "string" && parent !== "" ? parent : previousId,
      childIds: [],
      message: readMessage(message, leftOut, nowMs),
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

const roles: Readonly<Record<string, "user" | "assistant">> = {
  human: "user",
  user: "user",
  assistant: "assistant",
};

function readMessage(message: Fields, leftOut: LeftOut, nowMs: number): SourceMessage | null {
  const sender = textOf(message.sender ?? message.role);
  const role = Object.hasOwn(roles, sender) ? roles[sender] : undefined;
  if (role === undefined) {
    leftOut.add("other");
    return null;
  }
  leftOut.add("file", readList(message.files_v2 ?? message.files).length);
  const texts = [
    readBlocks(message, leftOut),
    ...readList(message.attachments).map((file) => readAttachment(file, leftOut)),
  ];
  const { content, isCut } = cleanContent(texts.filter((text) => text.trim() !== "").join("\n\n"));
  if (content === "") return null;
  if (isCut) leftOut.addCut();
  const model = role === "assistant" ? cleanModel(message.model) : null;
  return { role, content, model, at: readTime(message.created_at, nowMs) };
}

/** The texts of `content`. `text` repeats them, and is the only field in older exports. */
function readBlocks(message: Fields, leftOut: LeftOut): string {
  const texts = readList(message.content).map((block) => readBlock(readFields(block), leftOut));
  const text = texts.filter((part) => part !== "").join("\n\n");
  return text === "" ? textOf(message.text) : text;
}

function readBlock(block: Fields, leftOut: LeftOut): string {
  switch (block.type) {
    case "text":
      return textOf(block.text);
    case "thinking":
    case "redacted_thinking":
      leftOut.add("reasoning");
      return "";
    case "tool_use":
    case "tool_result":
      leftOut.add("tool");
      return "";
    case "image":
      leftOut.add("image");
      return "";
    default:
      if (block.type !== "token_budget" && block.type !== "flag") leftOut.add("other");
      return "";
  }
}

/** The text of an attached file, below its name. */
function readAttachment(value: unknown, leftOut: LeftOut): string {
  const file = readFields(value);
  const text = textOf(file.extracted_content);
  if (text === "") {
    leftOut.add("file");
    return "";
  }
  const name = cleanLine(file.file_name);
  return name === "" ? text : `${name}\n\n${text}`;
}
