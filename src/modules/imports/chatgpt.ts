import { asFields, asList, type Fields } from "../../ai/fields.ts";
import { cleanContent, cleanModel, getText, parseTime } from "./field-values.ts";
import type { SourceFormat } from "./format.ts";
import type { Omissions } from "./omissions.ts";
import type { SourceMessage } from "./tree.ts";

/** Maximum number of children to read per node. */
const CHILDREN_MAX = 10_000;

/**
 * Reads OpenAI's `conversations.json`: a list of conversations, each with a tree of messages (`mapping`) and the id of the
 * message that was displayed last (`current_node`).
 */
export const chatgpt: SourceFormat = {
  source: "chatgpt",
  label: "ChatGPT",
  nodesField: "mapping",

  parseNode({ key, value, omissions, nowMs }) {
    const node = asFields(value);
    return {
      id: getText(node.id) || key,
      parentId: getText(node.parent) || null,
      childIds: asList(node.children)
        .slice(0, CHILDREN_MAX)
        .filter((id) => typeof id === "string"),
      message: parseMessage(asFields(node.message), omissions, nowMs),
    };
  },

  parseConversation: (fields) => ({
    id: fields.conversation_id ?? fields.id,
    title: fields.title,
    createdAt: fields.create_time,
    updatedAt: fields.update_time,
    currentId: getText(fields.current_node) || null,
    model: fields.default_model_slug,
  }),
};

function parseMessage(message: Fields, omissions: Omissions, nowMs: number): SourceMessage | null {
  const metadata = asFields(message.metadata);
  const role = getText(asFields(message.author).role);
  if (metadata.is_visually_hidden_from_conversation === true || metadata.is_user_system_message === true) return null;
  if (role === "tool") {
    // Tool messages are not shown to the user, except for images that the tool created.
    const images = countImages(asFields(message.content));
    omissions.add(images > 0 ? "image" : "tool", Math.max(1, images));
    return null;
  }
  if (role !== "system" && role !== "user" && role !== "assistant") {
    // Some nodes have no message, so nothing is omitted.
    if (Object.keys(message).length > 0) omissions.add("other");
    return null;
  }
  if (isToolCall(role, message)) {
    omissions.add("tool");
    return null;
  }
  omissions.add("file", countFiles(metadata));
  const { content, isTruncated } = cleanContent(extractText(asFields(message.content), omissions));
  if (content.trim() === "") return null;
  if (isTruncated) omissions.addTruncated();
  const model = role === "assistant" ? cleanModel(metadata.model_slug) : null;
  return { role, content, model, at: parseTime(message.create_time, nowMs) };
}

/** Returns whether an assistant message is a tool call. Calls to the code interpreter (`python`) count as text, because users see them. */
const isToolCall = (role: string, { recipient }: Fields): boolean =>
  role === "assistant" && typeof recipient === "string" && !["", "all", "user", "python"].includes(recipient);

/** Counts the attached files, except images, which are counted as parts of the message. */
const countFiles = (metadata: Fields): number =>
  asList(metadata.attachments).filter((file) => {
    const { mime_type: type, mimeType } = asFields(file);
    return !getText(type ?? mimeType).startsWith("image/");
  }).length;

const countImages = ({ parts }: Fields): number =>
  asList(parts).filter((part) => asFields(part).content_type === "image_asset_pointer").length;

function extractText(content: Fields, omissions: Omissions): string {
  const type = getText(content.content_type);
  switch (type) {
    case "thoughts":
    case "reasoning_recap":
      omissions.add("reasoning");
      return "";
    case "user_editable_context":
    case "model_editable_context":
      return "";
    case "code":
      return formatCode(getText(content.language), getText(content.text) || joinParts(content, omissions));
    default: {
      const text = Array.isArray(content.parts) ? joinParts(content, omissions) : getText(content.text);
      if (text === "" && !Array.isArray(content.parts) && type !== "" && type !== "text") omissions.add("other");
      return text;
    }
  }
}

/** Formats code as a Markdown block, with a fence that doesn't occur in the code. */
function formatCode(language: string, code: string): string {
  if (code.trim() === "") return "";
  let fence = "```";
  while (code.includes(fence)) fence += "`";
  return `${fence}${/^[\w+#.-]{1,40}$/.test(language) && language !== "unknown" ? language : ""}\n${code}\n${fence}`;
}

const joinParts = ({ parts }: Fields, omissions: Omissions): string =>
  asList(parts)
    .map((part) => (typeof part === "string" ? part : getPartText(asFields(part), omissions)))
    .filter((text) => text !== "")
    .join("\n\n");

function getPartText(part: Fields, omissions: Omissions): string {
  const type = getText(part.content_type);
  if (type === "image_asset_pointer") omissions.add("image");
  else if (type.includes("audio_asset_pointer") || type.includes("video")) omissions.add("audio");
  else if (typeof part.text === "string") return part.text;
  else omissions.add("other");
  return "";
}
