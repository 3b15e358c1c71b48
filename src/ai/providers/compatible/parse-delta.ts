import { asFields, asList, asNonEmptyString, type Fields } from "../read-fields.ts";

/** The content of a delta or a message. `reasoning` is an empty string if the server only reports that reasoning exists. */
export type DeltaContent = { text: string; reasoning: string | null; calls: readonly unknown[] };

/** Parses a delta or a complete message in any known server's format. */
export function parseDelta(delta: Fields, legacyText?: unknown): DeltaContent {
  const { text, thinking } = parseContent(delta.content ?? delta.text ?? legacyText);
  return {
    text: text || (asNonEmptyString(delta.refusal) ?? ""),
    reasoning: (thinking === "" ? null : thinking) ?? parseReasoning(delta),
    calls: listCalls(delta),
  };
}

/** Returns the calls of a delta. Older servers send a single call in `function_call`. */
function listCalls(delta: Fields): readonly unknown[] {
  const { tool_calls: calls } = delta;
  // A single call isn't always in a list.
  if (calls) return asFields(calls).function ? [calls] : asList(calls);
  return delta.function_call ? [{ function: delta.function_call }] : [];
}

type ParsedContent = { text: string; thinking: string };

/** Parses content, which is a string or a list of text and reasoning parts. */
function parseContent(content: unknown): ParsedContent {
  if (typeof content === "string") return { text: content, thinking: "" };
  const parsed = { text: "", thinking: "" };
  if (typeof content === "object" && content !== null)
    for (const part of Array.isArray(content) ? content : [content]) addPart(parsed, part);
  return parsed;
}

const textTypes = new Set<unknown>([undefined, null, "text", "output_text", "text_delta"]);
const thinkingTypes = new Set<unknown>(["thinking", "reasoning", "thinking_delta"]);

function addPart(parsed: ParsedContent, part: unknown): void {
  if (typeof part === "string") parsed.text += part;
  const fields = asFields(part);
  if (textTypes.has(fields.type)) parsed.text += asNonEmptyString(fields.text) ?? "";
  else if (fields.type === "refusal") parsed.text += asNonEmptyString(fields.refusal) ?? "";
  else if (thinkingTypes.has(fields.type))
    parsed.thinking += joinText(fields.thinking ?? fields.reasoning ?? fields.text);
}

function parseReasoning(delta: Fields): string | null {
  const value = delta.reasoning_content || delta.reasoning || delta.thinking;
  if (typeof value === "string") return value === "" ? null : value;
  const details = asList(delta.reasoning_details);
  if (!value && details.length === 0) return null;
  const text = joinText(value) || details.map(getDetailText).join("");
  return text === "" && details.length === 0 ? null : text;
}

const getDetailText = (detail: unknown): string => {
  const { text, summary } = asFields(detail);
  return asNonEmptyString(text) ?? asNonEmptyString(summary) ?? "";
};

/** Returns the text of a reasoning value, which may be a list of parts. */
function joinText(value: unknown): string {
  if (typeof value === "string") return value;
  return Array.isArray(value) ? value.map(getPartText).join("") : getPartText(value);
}

const getPartText = (part: unknown): string =>
  typeof part === "string"
    ? part
    : (asNonEmptyString(asFields(part).text) ?? asNonEmptyString(asFields(part).content) ?? "");
