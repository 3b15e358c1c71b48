import { writeFormatInstructions } from "../format/instructions.ts";
import type { AnswerFormat, ChatMessage, ProviderRequest } from "../provider.ts";

/** Appends a system message about the format, for providers that can't enforce it. */
export const addFormatInstructions = (messages: readonly ChatMessage[], format: AnswerFormat): ChatMessage[] => [
  ...messages,
  { role: "system", content: writeFormatInstructions(format) },
];

/** Whether a message contains "JSON". If none does, OpenAI and compatible servers reject `json_object`. */
export const mentionsJson = ({ messages }: Pick<ProviderRequest, "messages">): boolean =>
  messages.some(({ content }) => /json/i.test(content));
