import { type Fields, readFields, readList } from "../../ai/fields.ts";
import type { Format } from "./format.ts";
import type { Omissions } from "./omissions.ts";
import { cleanContent, cleanModel, readTime, textOf } from "./texts.ts";
import type { SourceMessage } from "./tree.ts";

/** Maximum children that are read per node. */
const CHILDREN_MAX = 10_000;

/**
 * OpenAI's `conversations.json`: a list of conversations, each with its messages as a tree (`mapping`) and the node
 * that was displayed last (`current_node`).
 */
export const chatgpt: Format = {
  source: "chatgpt",
  label: "ChatGPT",
  nodesField: "mapping",

  readNode({ key, value, omissions, nowMs }) {
    const node = readFields(value);
    return {
      id: textOf(node.id) || key,
      parentId: textOf(node.parent) || null,
      childIds: readList(node.children)
        .slice(0, CHILDREN_MAX)
        .filter((id) => typeof id === "string"),
      message: readMessage(readFields(node.message), omissions, nowMs),
    };
  },

  readConversation: (fields) => ({
    id: fields.conversation_id ?? fields.id,
    title: fields.title,
    createdAt: fields.create_time,
    updatedAt: fields.update_time,
    currentId: textOf(fields.current_node) || null,
    model: fields.default_model_slug,
  }),
};

function readMessage(message: Fields, omissions: Omissions, nowMs: number): SourceMessage | null {
  const metadata = readFields(message.metadata);
  const role = textOf(readFields(message.author).role);
  if (metadata.is_visually_hidden_from_conversation === true || metadata.is_user_system_message === true) return null;
  if (role === "tool") {
    // Images created by a tool are part of the conversation. Other tool messages are meant for the model.
    const images = countImages(readFields(message.content));
    omissions.add(images > 0 ? "image" : "tool", Math.max(1, images));
    return null;
  }
  if (role !== "system" && role !== "user" && role !== "assistant") {
    // Nodes without a message are normal and aren't counted as omitted.
    if (Object.keys(message).length > 0) omissions.add("other");
    return null;
  }
  if (isToolCall(role, message)) {
    omissions.add("tool");
    return null;
  }
  omissions.add("file", countFiles(metadata));
  const { content, isCut } = cleanContent(readContent(readFields(message.content), omissions));
  if (content.trim() === "") return null;
  if (isCut) omissions.addTruncated();
  const model = role === "assistant" ? cleanModel(metadata.model_slug) : null;
  return { role, content, model, at: readTime(message.create_time, nowMs) };
}

/**
 * Whether an assistant message is a tool call. Calls of the code interpreter (`python`) are part of the visible
 * conversation.
 */
const isToolCall = (role: string, { recipient }: Fields): boolean =>
  role === "assistant" && typeof recipient === "string" && !["", "all", "user", "python"].includes(recipient);

/** The number of attached files. Images aren't counted here, because they are also parts of the message. */
const countFiles = (metadata: Fields): number =>
  readList(metadata.attachments).filter((file) => {
    const { mime_type: type, mimeType } = readFields(file);
    return !textOf(type ?? mimeType).startsWith("image/");
  }).length;

const countImages = ({ parts }: Fields): number =>
  readList(parts).filter((part) => readFields(part).content_type === "image_asset_pointer").length;

function readContent(content: Fields, omissions: Omissions): string {
  const type = textOf(content.content_type);
  switch (type) {
    case "thoughts":
    case "reasoning_recap":
      omissions.add("reasoning");
      return "";
    case "user_editable_context":
    case "model_editable_context":
      return "";
    case "code":
      return formatCode(textOf(content.language), textOf(content.text) || readParts(content, omissions));
    default: {
      const text = Array.isArray(content.parts) ? readParts(content, omissions) : textOf(content.text);
      if (text === "" && !Array.isArray(content.parts) && type !== "" && type !== "text") omissions.add("other");
      return text;
    }
  }
}

/** Formats code as Markdown, with a fence that doesn't occur in the code. */
function formatCode(language: string, code: string): string {
  if (code.trim() === "") return "";
  let fence = "```";
  while (code.includes(fence)) fence += "`";
  return `${fence}${/^[\w+#.-]{1,40}$/.test(language) && language !== "unknown" ? language : ""}\n${code}\n${fence}`;
}

const readParts = ({ parts }: Fields, omissions: Omissions): string =>
  readList(parts)
    .map((part) => (typeof part === "string" ? part : readPart(readFields(part), omissions)))
    .filter((text) => text !== "")
    .join("\n\n");

function readPart(part: Fields, omissions: Omissions): string {
  const type = textOf(part.content_type);
  if (type === "image_asset_pointer") omissions.add("image");
  else if (type.includes("audio_asset_pointer") || type.includes("video")) omissions.add("audio");
  else if (typeof part.text === "string") return part.text;
  else omissions.add("other");
  return "";
}
