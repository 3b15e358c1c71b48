import type { ChatMessage } from "./provider.ts";

/**
 * Most of a broken answer that is quoted to the model that goes on with it, in UTF-16 units: enough to keep the thread,
 * small enough for every model's context.
 */
export const QUOTE_LENGTH_MAX = 24_000;

export type Turn = { role: "user" | "assistant"; content: string };

/** A conversation in the strictest form that providers ask for. */
export type Turns = { system: string | null; turns: Turn[] };

/**
 * Brings a conversation into the form that every provider takes: system texts first and as one, user and assistant in
 * strict alternation (several chat templates refuse anything else), nothing empty, a user first and last. A broken
 * answer is continued by the last user turn, never by a prefilled assistant turn, which Claude 4.6 and later refuse.
 */
export function mapToTurns(messages: readonly ChatMessage[], partial: string | null): Turns {
  const system: string[] = [];
  const turns: Turn[] = [];
  const add = (role: Turn["role"], content: string) => {
    const last = turns.at(-1);
    if (last?.role === role) last.content += `\n\n${content}`;
    else turns.push({ role, content });
  };
  for (const { role, content } of messages) {
    if (content.trim() === "") continue;
    if (role === "system") system.push(content);
    else add(role, content);
  }
  if (partial !== null) add("user", quotePartial(partial));
  if (turns[0]?.role !== "user") turns.unshift({ role: "user", content: "(The conversation begins.)" });
  if (turns.at(-1)?.role !== "user") add("user", "Please go on.");
  return { system: system.length > 0 ? system.join("\n\n") : null, turns };
}

function quotePartial(partial: string): string {
  const isCut = partial.length > QUOTE_LENGTH_MAX;
  const quote = isCut ? partial.slice(-QUOTE_LENGTH_MAX).replace(/^[\uDC00-\uDFFF]/, "") : partial;
  return [
    "[Note from the chat server] Your answer to the above was interrupted by a technical fault.",
    `This part of it${isCut ? " (its beginning is left out here)" : ""} has already been shown to the reader:`,
    `<partial_answer>\n${quote}\n</partial_answer>`,
    "Write only what comes next, so that both parts together read as one uninterrupted answer in the same language and format.",
    "Your first character is placed directly after the last character of the partial answer: begin with a space or a line break if one is needed there.",
    "Repeat nothing of it, and say nothing about the interruption or this note.",
  ].join("\n");
}
