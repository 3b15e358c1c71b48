import { asFields, asList, type Fields } from "../../ai/fields.ts";
import { cleanContent, cleanLine, cleanModel, getText, parseTime } from "./field-values.ts";
import type { SourceFormat } from "./format.ts";
import type { Omissions } from "./omissions.ts";
import type { SourceMessage } from "./tree.ts";

/**
 * Reads Anthropic's `conversations.json`: a list of conversations, each with its messages in order (`chat_messages`). In newer
 * exports, messages refer to their parents, so a conversation can have branches.
 */
export const claude: SourceFormat = {
  source: "claude",
  label: "Claude",
  nodesField: "chat_messages",

  parseNode({ key, value, omissions, nowMs, previousId }) {
    const message = asFields(value);
    const parent = message.parent_message_uuid;
    return {
      id: getText(message.uuid) || `#${key}`,
      parentId: typeof parent === "string" && parent !== "" ? parent : previousId,
      childIds: [],
      message: parseMessage(message, omissions, nowMs),
    };
  },

  parseConversation: (fields) => ({
    id: fields.uuid,
    title: fields.name,
    createdAt: fields.created_at,
    updatedAt: fields.updated_at,
    currentId: getText(fields.current_leaf_message_uuid) || null,
    model: fields.model,
  }),
};

const rolesBySender: Readonly<Record<string, "user" | "assistant">> = {
  human: "user",
  user: "user",
  assistant: "assistant",
};

function parseMessage(message: Fields, omissions: Omissions, nowMs: number): SourceMessage | null {
  const sender = getText(message.sender ?? message.role);
  const role = Object.hasOwn(rolesBySender, sender) ? rolesBySender[sender] : undefined;
  if (role === undefined) {
    omissions.add("other");
    return null;
  }
  omissions.add("file", asList(message.files_v2 ?? message.files).length);
  const textParts = [
    joinTextBlocks(message, omissions),
    ...asList(message.attachments).map((file) => formatAttachment(file, omissions)),
  ];
  const { content, isTruncated } = cleanContent(textParts.filter((text) => text.trim() !== "").join("\n\n"));
  if (content === "") return null;
  if (isTruncated) omissions.addTruncated();
  const model = role === "assistant" ? cleanModel(message.model) : null;
  return { role, content, model, at: parseTime(message.created_at, nowMs) };
}

/** Joins the text blocks in `content`. Older exports have no `content`, so the field `text` is used instead. */
function joinTextBlocks(message: Fields, omissions: Omissions): string {
  const blockTexts = asList(message.content).map((block) => getBlockText(asFields(block), omissions));
  const text = blockTexts.filter((part) => part !== "").join("\n\n");
  return text === "" ? getText(message.text) : text;
}

function getBlockText(block: Fields, omissions: Omissions): string {
  switch (block.type) {
    case "text":
      return getText(block.text);
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
function formatAttachment(value: unknown, omissions: Omissions): string {
  const file = asFields(value);
  const text = getText(file.extracted_content);
  if (text === "") {
    omissions.add("file");
    return "";
  }
  const name = cleanLine(file.file_name);
  return name === "" ? text : `${name}\n\n${text}`;
}
