import { type Fields, readFields, readList, readText } from "../read-fields.ts";

/** The content of a delta or a message. `reasoning`: null for none; empty if the server only reports that there is some. */
export type Content = { text: string; reasoning: string | null; calls: readonly unknown[] };

/** Reads a delta or a whole message, in the formats of all known servers. */
export function readDelta(delta: Fields, legacyText?: unknown): Content {
  const { text, thinking } = readContent(delta.content ?? delta.text ?? legacyText);
  return {
    text: text || (readText(delta.refusal) ?? ""),
    reasoning: (thinking === "" ? null : thinking) ?? readReasoning(delta),
    calls: readCalls(delta),
  };
}

/** Old servers send at most one call, in another field. */
function readCalls(delta: Fields): readonly unknown[] {
  const { tool_calls: calls } = delta;
  // A single call may come without a list.
  if (calls) return readFields(calls).function ? [calls] : readList(calls);
  return delta.function_call ? [{ function: delta.function_call }] : [];
}

type Read = { text: string; thinking: string };

/** Content is a text, or parts of which some may be reasoning. */
function readContent(content: unknown): Read {
  if (typeof content === "string") return { text: content, thinking: "" };
  const read = { text: "", thinking: "" };
  if (typeof content === "object" && content !== null)
    for (const part of Array.isArray(content) ? content : [content]) addPart(read, part);
  return read;
}

const textTypes = new Set<unknown>([undefined, null, "text", "output_text", "text_delta"]);
const thinkingTypes = new Set<unknown>(["thinking", "reasoning", "thinking_delta"]);

function addPart(read: Read, part: unknown): void {
  if (typeof part === "string") read.text += part;
  const fields = readFields(part);
  if (textTypes.has(fields.type)) read.text += readText(fields.text) ?? "";
  else if (fields.type === "refusal") read.text += readText(fields.refusal) ?? "";
  else if (thinkingTypes.has(fields.type)) read.thinking += flatten(fields.thinking ?? fields.reasoning ?? fields.text);
}

function readReasoning(delta: Fields): string | null {
  const stated = delta.reasoning_content || delta.reasoning || delta.thinking;
  if (typeof stated === "string") return stated === "" ? null : stated;
  const details = readList(delta.reasoning_details);
  if (!stated && details.length === 0) return null;
  const text = flatten(stated) || details.map(readDetail).join("");
  return text === "" && details.length === 0 ? null : text;
}

const readDetail = (detail: unknown): string => {
  const { text, summary } = readFields(detail);
  return readText(text) ?? readText(summary) ?? "";
};

/** The text of a reasoning value, which may consist of parts. */
function flatten(value: unknown): string {
  if (typeof value === "string") return value;
  return Array.isArray(value) ? value.map(readPartText).join("") : readPartText(value);
}

const readPartText = (part: unknown): string =>
  typeof part === "string" ? part : (readText(readFields(part).text) ?? readText(readFields(part).content) ?? "");
