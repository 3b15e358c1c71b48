import { createId } from "../../src/lib/id.ts";
import type { SendItem } from "../../src/modules/messages/send-queries.ts";

/** A message that requests an answer, as the sender passes it to the database. */
export const createSendItem = (
  conversationId: string,
  authorId: string,
  content: string,
  more: Partial<SendItem> = {},
): SendItem => ({
  id: createId(),
  conversationId,
  authorId,
  clientMessageId: null,
  content,
  parentId: null,
  reply: true,
  isMentioned: false,
  model: null,
  answerId: createId(),
  generationId: createId(),
  keyId: null,
  integration: null,
  replyOptions: null,
  ...more,
});
