import { writeFormatInstructions } from "../format/instructions.ts";
import type { AnswerFormat, ChatMessage, ProviderRequest } from "../provider.ts";

/** The messages with a last word of the system on the format, for where the provider cannot force it. */
export const addInstructions = (messages: readonly ChatMessage[], format: AnswerFormat): ChatMessage[] => [
  ...messages,
  { role: "system", content: writeFormatInstructions(format) },
];

/** OpenAI, and servers that follow it, refuse `json_object` for a conversation that never says "JSON". */
export const saysJson = ({ messages }: Pick<ProviderRequest, "messages">): boolean =>
  messages.some(({ content }) => /json/i.test(content));
