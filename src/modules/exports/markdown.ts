import type { Conversation } from "../../protocol/conversation.ts";
import type { Message } from "../../protocol/message.ts";

/** The number of the parent message, if it isn't the one directly above. */
export type FindSeq = (messageId: string) => number | undefined;

/** Writes a conversation as Markdown. Message texts stay unchanged; titles and names are escaped. */
export function writeHead({ title, model, created_at, updated_at }: Conversation, exportedAt: Date): string {
  const facts = [
    `- Started: ${writeTime(created_at)}`,
    `- Last activity: ${writeTime(updated_at)}`,
    ...(model === null ? [] : [`- Model: ${escapeLine(model)}`]),
    `- Exported: ${writeTime(exportedAt.toISOString())}`,
  ];
  return `# ${escapeLine(title) || "Untitled conversation"}\n\n${facts.join("\n")}\n`;
}

/** @param before the message above; undefined for the first one. */
export function writeMessage(message: Message, before: Message | undefined, findSeq: FindSeq): string {
  const { seq, parent_id, created_at } = message;
  const marks = [
    ...(parent_id !== null && parent_id !== before?.id
      ? [`*Branch: follows message ${findSeq(parent_id) ?? "?"}*`]
      : []),
    ...listStates(message).map((state) => `*${state}*`),
  ];
  const lines = [`## ${escapeLine(nameOf(message))} · ${writeTime(created_at)} · #${seq}`, ...marks];
  const text = message.deleted_at === null ? message.content : "";
  return `\n${lines.join("\n\n")}\n${writeReasoning(message)}${text === "" ? "" : `\n${text}\n`}`;
}

/** Collapsed by default where Markdown is rendered as HTML. The content can't close the element early. */
function writeReasoning({ reasoning }: Message): string {
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

function nameOf({ role, author, model }: Message): string {
  if (role === "assistant") return model ? `Assistant (${model})` : "Assistant";
  if (role === "system") return "System";
  if (role === "tool") return "Tool";
  return author?.display_name ?? "Former user";
}

/** `2026-01-31 12:00 UTC` */
const writeTime = (time: string): string => `${time.slice(0, 10)} ${time.slice(11, 16)} UTC`;

/** One line of escaped plain text. */
const escapeLine = (text: string): string =>
  text
    .replaceAll(/[\p{C}\p{Zl}\p{Zp}\s]+/gu, " ")
    .trim()
    .replaceAll(/[\\`*_[\]<>#|~&!]/g, "\\$&");
