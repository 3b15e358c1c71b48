import type { ChatMessage, Thinking, ToolCall } from "../provider.ts";

/**
 * Maximum length of the quote from an incomplete answer that is sent to the next model, in UTF-16 code units. Such a quote is
 * long enough to continue the answer, and short enough for every model's context window.
 */
export const QUOTE_LENGTH_MAX = 24_000;

const NO_RESULT = "(This call was not carried out.)";

type ToolResult = { callId: string; content: string };

export type Turn =
  | { role: "user"; content: string }
  | { role: "assistant"; content: string; toolCalls: readonly ToolCall[]; thinking?: Thinking | undefined }
  /** Has one result for each call of the preceding assistant turn, in order. */
  | { role: "tool"; results: ToolResult[] };

/** A conversation that meets the requirements of all providers. */
export type StrictConversation = { system: string | null; turns: Turn[] };

/**
 * Maps a conversation to turns that all providers accept:
 * - All system messages are joined.
 * - User and assistant turns alternate, because several chat templates reject anything else.
 * - The first turn is a user's. The last one is a user's, or contains tool results.
 * - Each tool call is followed by its result.
 * - No turn is empty.
 * An incomplete answer is quoted in a final user turn, because Claude 4.6 and later reject a prefilled assistant turn.
 */
export function mapToTurns(messages: readonly ChatMessage[], partial: string | null): StrictConversation {
  const system: string[] = [];
  const turns: Turn[] = [];
  for (const message of messages) {
    if (message.role === "tool") addToolResult(turns, message.toolCallId, message.content);
    else if (message.role === "assistant") addAssistantTurn(turns, message);
    else if (message.content.trim() === "") continue;
    else if (message.role === "system") system.push(message.content);
    else addUserTurn(turns, message.name === undefined ? message.content : `${message.name}: ${message.content}`);
  }
  if (partial !== null) addUserTurn(turns, quotePartial(partial));
  if (turns[0]?.role !== "user") turns.unshift({ role: "user", content: "(The conversation begins.)" });
  if (turns.at(-1)?.role === "assistant") addUserTurn(turns, "Please continue.");
  return { system: system.length > 0 ? system.join("\n\n") : null, turns };
}

function addUserTurn(turns: Turn[], content: string): void {
  const lastTurn = turns.at(-1);
  if (lastTurn?.role === "user") lastTurn.content += `\n\n${content}`;
  else turns.push({ role: "user", content });
}

function addAssistantTurn(
  turns: Turn[],
  { content, toolCalls = [], thinking }: Extract<ChatMessage, { role: "assistant" }>,
): void {
  if (content.trim() === "" && toolCalls.length === 0) return;
  const lastTurn = turns.at(-1);
  if (lastTurn?.role === "assistant") {
    lastTurn.content = [lastTurn.content, content].filter((text) => text.trim() !== "").join("\n\n");
    lastTurn.toolCalls = toolCalls;
    // Thinking is only valid at the start of its own turn.
    delete lastTurn.thinking;
  } else turns.push({ role: "assistant", content, toolCalls, thinking });
  // Providers reject a call without a result, so each call receives a placeholder first.
  if (toolCalls.length > 0)
    turns.push({ role: "tool", results: toolCalls.map(({ id }) => ({ callId: id, content: NO_RESULT })) });
}

/** Adds a tool result. Drops a result without a matching call, because providers reject it. */
function addToolResult(turns: Turn[], callId: string, content: string): void {
  const lastTurn = turns.at(-1);
  const matchingResult =
    lastTurn?.role === "tool" ? lastTurn.results.find((result) => result.callId === callId) : undefined;
  if (matchingResult) matchingResult.content = content;
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
