import { createId } from "../../src/lib/id.ts";
import type { SendItem } from "../../src/modules/messages/send-queries.ts";

/** Creates the input of the send query for a message that requests an answer. */
export const createSendItem = (
  conversationId: string,
  authorId: string,
  content: string,
  overrides: Partial<SendItem> = {},
): SendItem => ({
  id: createId(),
  conversationId,
  authorId,
  clientMessageId: null,
  content,
  parentId: null,
  reply: true,
  mentionsAssistant: false,
  model: null,
  answerId: createId(),
  generationId: createId(),
  keyId: null,
  integration: null,
  replyOptions: null,
  ...overrides,
});
