import type { Conversation } from "../../protocol/conversation.ts";
import type { Message } from "../../protocol/message.ts";

/** Finds the `seq` of a parent message that isn't the message directly above. */
export type FindSeq = (messageId: string) => number | undefined;

/** Formats a conversation's title and properties as Markdown. Titles and names are escaped. */
export function formatConversationHeader(
  { title, model, created_at, updated_at }: Conversation,
  exportedAt: Date,
): string {
  const properties = [
    `- Started: ${formatTime(created_at)}`,
    `- Last activity: ${formatTime(updated_at)}`,
    ...(model === null ? [] : [`- Model: ${escapeLine(model)}`]),
    `- Exported: ${formatTime(exportedAt.toISOString())}`,
  ];
  return `# ${escapeLine(title) || "Untitled conversation"}\n\n${properties.join("\n")}\n`;
}

/** Formats a message. Its text is not changed. @param previous the message above, or undefined for the first message. */
export function formatMessage(message: Message, previous: Message | undefined, findSeq: FindSeq): string {
  const { seq, parent_id, created_at } = message;
  const notes = [
    ...(parent_id !== null && parent_id !== previous?.id
      ? [`*Branch: follows message ${findSeq(parent_id) ?? "?"}*`]
      : []),
    ...listStates(message).map((state) => `*${state}*`),
  ];
  const lines = [`## ${escapeLine(formatAuthor(message))} · ${formatTime(created_at)} · #${seq}`, ...notes];
  const text = message.deleted_at === null ? message.content : "";
  return `\n${lines.join("\n\n")}\n${formatReasoning(message)}${text === "" ? "" : `\n${text}\n`}`;
}

/** Formats the reasoning as a collapsed element. Its text is escaped, so that it can't close the element. */
function formatReasoning({ reasoning }: Message): string {
  if (!reasoning) return "";
  const text = reasoning.trim().replaceAll(/<(?=\/?(?:details|summary)\b)/gi, "&lt;");
  return `\n<details>\n<summary>Reasoning</summary>\n\n${text}\n\n</details>\n`;
}

function listStates({ deleted_at, status, error }: Message): string[] {
  if (deleted_at !== null) return ["Deleted"];
  if (status === "streaming") return ["In progress"];
  if (status === "cancelled") return ["Stopped"];
  if (status === "failed") return [`Failed: ${escapeLine(error?.code ?? "error")}`];
  return [];
}

function formatAuthor({ role, author, model }: Message): string {
  if (role === "assistant") return model ? `Assistant (${model})` : "Assistant";
  if (role === "system") return "System";
  if (role === "tool") return "Tool";
  return author?.display_name ?? "Former user";
}

/** Formats a time as `2026-01-31 12:00 UTC`. */
const formatTime = (time: string): string => `${time.slice(0, 10)} ${time.slice(11, 16)} UTC`;

/** Formats plain text as one escaped line. */
const escapeLine = (text: string): string =>
  text
    .replaceAll(/[\p{C}\p{Zl}\p{Zp}\s]+/gu, " ")
    .trim()
    .replaceAll(/[\\`*_[\]<>#|~&!]/g, "\\$&");
