import type { ChatMessage, Thinking, ToolCall } from "../provider.ts";

/**
 * Most of a broken answer that is quoted to the next model, in UTF-16 units: enough context to continue, small enough for
 * every window.
 */
export const QUOTE_LENGTH_MAX = 24_000;

const NO_RESULT = "(This call was not carried out.)";

type ToolResult = { callId: string; content: string };

export type Turn =
  | { role: "user"; content: string }
  | { role: "assistant"; content: string; toolCalls: readonly ToolCall[]; thinking?: Thinking | undefined }
  /** One result for each call of the preceding assistant turn, in order. */
  | { role: "tool"; results: ToolResult[] };

/** A conversation in the strictest form that any provider requires. */
export type StrictConversation = { system: string | null; turns: Turn[] };

/**
 * Normalizes a conversation for every provider: one system text first; user and assistant strictly alternating (several chat
 * templates reject anything else); tool results complete and right after their calls; nothing empty; a user first and a user
 * or a tool last. A broken answer is continued by a final user turn, never by a prefilled assistant turn, which Claude 4.6
 * and later reject.
 */
export function mapToTurns(messages: readonly ChatMessage[], partial: string | null): StrictConversation {
  const system: string[] = [];
  const turns: Turn[] = [];
  for (const message of messages) {
    if (message.role === "tool") addResult(turns, message.toolCallId, message.content);
    else if (message.role === "assistant") addAssistant(turns, message);
    else if (message.content.trim() === "") continue;
    else if (message.role === "system") system.push(message.content);
    else addUser(turns, message.name === undefined ? message.content : `${message.name}: ${message.content}`);
  }
  if (partial !== null) addUser(turns, quotePartial(partial));
  if (turns[0]?.role !== "user") turns.unshift({ role: "user", content: "(The conversation begins.)" });
  if (turns.at(-1)?.role === "assistant") addUser(turns, "Please continue.");
  return { system: system.length > 0 ? system.join("\n\n") : null, turns };
}

function addUser(turns: Turn[], content: string): void {
  const last = turns.at(-1);
  if (last?.role === "user") last.content += `\n\n${content}`;
  else turns.push({ role: "user", content });
}

function addAssistant(
  turns: Turn[],
  { content, toolCalls = [], thinking }: Extract<ChatMessage, { role: "assistant" }>,
): void {
  if (content.trim() === "" && toolCalls.length === 0) return;
  const last = turns.at(-1);
  if (last?.role === "assistant") {
    last.content = [last.content, content].filter((text) => text.trim() !== "").join("\n\n");
    last.toolCalls = toolCalls;
    // It belongs to a turn that starts with it.
    delete last.thinking;
  } else turns.push({ role: "assistant", content, toolCalls, thinking });
  // Every call has a placeholder result from the start: providers reject a call without one.
  if (toolCalls.length > 0)
    turns.push({ role: "tool", results: toolCalls.map(({ id }) => ({ callId: id, content: NO_RESULT })) });
}

/** Drops a result without a matching call: providers reject it. */
function addResult(turns: Turn[], callId: string, content: string): void {
  const last = turns.at(-1);
  const place = last?.role === "tool" ? last.results.find((result) => result.callId === callId) : undefined;
  if (place) place.content = content;
}

function quotePartial(partial: string): string {
  const isCut = partial.length > QUOTE_LENGTH_MAX;
  const quote = isCut ? partial.slice(-QUOTE_LENGTH_MAX).replace(/^[\uDC00-\uDFFF]/, "") : partial;
  return [
    "[Note from the chat server] Your answer to the above was interrupted by a technical fault.",
    `This part of it${isCut ? " (its beginning is omitted here)" : ""} has already been shown to the reader:`,
    `<partial_answer>\n${quote}\n</partial_answer>`,
    "Write only what comes next, so that both parts together read as one uninterrupted answer in the same language and format.",
    "Your first character is placed directly after the last character of the partial answer: begin with a space or a line break if one is needed there.",
    "Repeat nothing of it, and say nothing about the interruption or this note.",
  ].join("\n");
}
