import { isJsonObject, type Json, type JsonObject } from "../../lib/json.ts";
import { isLine, isVisible } from "../../lib/text.ts";
import { HOOK_NAME_CHARS_MAX } from "./limits.ts";

/** Whether a body has the format of Slack's incoming webhooks. */
export const isSlackFormat = (body: JsonObject): boolean =>
  !("content" in body) && ["text", "blocks", "attachments"].some((field) => field in body);

/** Reads the text of a post in Slack's format as Markdown: `text`, or else the blocks' text; then the attachments' texts. */
export function readSlackText({ text, blocks, attachments }: JsonObject): string {
  const main = typeof text === "string" && text !== "" ? [text] : listItems(blocks).flatMap(readBlock);
  return mapMarkup([...main, ...listItems(attachments).flatMap(readAttachment)].join("\n"));
}

/** Reads the author name of a post in Slack's format, shortened; null if it isn't usable. */
export function readSlackName({ username }: JsonObject): string | null {
  if (typeof username !== "string") return null;
  const name = username.trim().slice(0, HOOK_NAME_CHARS_MAX).toWellFormed().trim();
  return isLine(name) && isVisible(name) ? name : null;
}

const listItems = (value: Json | undefined): JsonObject[] => (Array.isArray(value) ? value.filter(isJsonObject) : []);

const listTexts = (values: (Json | undefined)[]): string[] =>
  values.filter((value): value is string => typeof value === "string" && value !== "");

/** Sections, headers, context and rich text have texts; images, buttons and the like have none. */
function readBlock({ type, text, fields, elements }: JsonObject): string[] {
  if (type === "rich_text") return listItems(elements).flatMap(readRichLines);
  const parts = [...(text === undefined ? [] : [text]), ...listItems(fields), ...listItems(elements)];
  return parts.filter(isJsonObject).flatMap((part) => listTexts([part.text]));
}

/** Reads a rich text element: a section, quote or code block is one line; a list has one line per item. */
function readRichLines({ type, elements }: JsonObject): string[] {
  if (type === "rich_text_list")
    return listItems(elements)
      .flatMap(readRichLines)
      .map((line) => `- ${line}`);
  return listTexts([listItems(elements).map(readInline).join("")]);
}

function readInline({ type, text, url, name }: JsonObject): string {
  if (type === "emoji" && typeof name === "string") return `:${name}:`;
  const label = typeof text === "string" ? text : "";
  if (type !== "link" || typeof url !== "string") return label;
  return label === "" ? `<${url}>` : `<${url}|${label}>`;
}

function readAttachment({ pretext, title, title_link, text, fallback, fields, blocks }: JsonObject): string[] {
  const heading = typeof title === "string" && typeof title_link === "string" ? `<${title_link}|${title}>` : title;
  const texts = listTexts([pretext, heading, text]);
  const fieldTexts = listItems(fields).flatMap((field) => {
    const parts = listTexts([field.title, field.value]);
    return parts.length > 0 ? [parts.join(": ")] : [];
  });
  const all = [...texts, ...fieldTexts, ...listItems(blocks).flatMap(readBlock)];
  return all.length > 0 ? all : listTexts([fallback]);
}

/** Converts links and entities of Slack's markup to Markdown; everything else stays unchanged. */
const mapMarkup = (text: string): string =>
  text
    .replace(/<((?:https?|mailto):[^<>|\s]+)(?:\|([^<>\n]+))?>/g, (_all, url: string, label: string | undefined) =>
      label === undefined ? url : `[${label}](${url})`,
    )
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&amp;", "&");
