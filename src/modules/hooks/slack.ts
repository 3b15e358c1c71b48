import { isJsonObject, type Json, type JsonObject } from "../../lib/json.ts";
import { hasVisibleCharacter, isSingleLine } from "../../lib/text.ts";
import { HOOK_NAME_CHARS_MAX } from "./limits.ts";

/** Returns whether a body has the format of Slack's incoming webhooks. */
export const isSlackFormat = (body: JsonObject): boolean =>
  !("content" in body) && ["text", "blocks", "attachments"].some((field) => field in body);

/** Returns a Slack post's text as Markdown: `text` or, if it is empty, the blocks' text, followed by the attachments' text. */
export function parseSlackText({ text, blocks, attachments }: JsonObject): string {
  const mainTexts = typeof text === "string" && text !== "" ? [text] : listItems(blocks).flatMap(listBlockTexts);
  return mapMarkupToMarkdown([...mainTexts, ...listItems(attachments).flatMap(listAttachmentTexts)].join("\n"));
}

/** Returns a Slack post's author name, shortened if necessary, or null if it isn't usable. */
export function parseSlackName({ username }: JsonObject): string | null {
  if (typeof username !== "string") return null;
  const name = username.trim().slice(0, HOOK_NAME_CHARS_MAX).toWellFormed().trim();
  return isSingleLine(name) && hasVisibleCharacter(name) ? name : null;
}

const listItems = (value: Json | undefined): JsonObject[] => (Array.isArray(value) ? value.filter(isJsonObject) : []);

const listTexts = (values: (Json | undefined)[]): string[] =>
  values.filter((value): value is string => typeof value === "string" && value !== "");

/** Lists a block's strings. Sections, headers, context and rich text contain text. Images, buttons and other blocks don't. */
function listBlockTexts({ type, text, fields, elements }: JsonObject): string[] {
  if (type === "rich_text") return listItems(elements).flatMap(listRichTextLines);
  const parts = [...(text === undefined ? [] : [text]), ...listItems(fields), ...listItems(elements)];
  return parts.filter(isJsonObject).flatMap((part) => listTexts([part.text]));
}

/** Lists the lines of a rich text element. A section, quote or code block is one line. A list has one line per item. */
function listRichTextLines({ type, elements }: JsonObject): string[] {
  if (type === "rich_text_list")
    return listItems(elements)
      .flatMap(listRichTextLines)
      .map((line) => `- ${line}`);
  return listTexts([listItems(elements).map(formatInline).join("")]);
}

function formatInline({ type, text, url, name }: JsonObject): string {
  if (type === "emoji" && typeof name === "string") return `:${name}:`;
  const label = typeof text === "string" ? text : "";
  if (type !== "link" || typeof url !== "string") return label;
  return label === "" ? `<${url}>` : `<${url}|${label}>`;
}

function listAttachmentTexts({ pretext, title, title_link, text, fallback, fields, blocks }: JsonObject): string[] {
  const heading = typeof title === "string" && typeof title_link === "string" ? `<${title_link}|${title}>` : title;
  const texts = listTexts([pretext, heading, text]);
  const fieldTexts = listItems(fields).flatMap((field) => {
    const parts = listTexts([field.title, field.value]);
    return parts.length > 0 ? [parts.join(": ")] : [];
  });
  const allTexts = [...texts, ...fieldTexts, ...listItems(blocks).flatMap(listBlockTexts)];
  return allTexts.length > 0 ? allTexts : listTexts([fallback]);
}

/** Converts the links and entities of Slack's markup to Markdown. The rest is not changed. */
const mapMarkupToMarkdown = (text: string): string =>
  text
    .replace(/<((?:https?|mailto):[^<>|\s]+)(?:\|([^<>\n]+))?>/g, (_all, url: string, label: string | undefined) =>
      label === undefined ? url : `[${label}](${url})`,
    )
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&amp;", "&");
