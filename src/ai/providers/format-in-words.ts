import { writeFormatInstructions } from "../format/instructions.ts";
import type { AnswerFormat, ChatMessage, ProviderRequest } from "../provider.ts";

/** Appends a system message about the format, for providers that can't enforce it. */
export const addInstructions = (messages: readonly ChatMessage[], format: AnswerFormat): ChatMessage[] => [
  ...messages,
  { role: "system", content: writeFormatInstructions(format) },
];

/** Whether a message contains "JSON". OpenAI and compatible servers reject `json_object` otherwise. */
export const mentionsJson = ({ messages }: Pick<ProviderRequest, "messages">): boolean =>
  messages.some(({ content }) => /json/i.test(content));
