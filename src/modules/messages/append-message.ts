import { requireRow } from "../../db/client.ts";
import type { EventTransaction } from "../../events/log.ts";
import { type Message, mapRowToMessage } from "../../protocol/message.ts";
import { findMessageById, findStoredMessage, insertMessage, type OtherMessage } from "./queries.ts";

/**
 * Stores a message that no user sent, with its `message.created`; after a failure it may be called again.
 * @throws Problem `not_found` when the conversation is gone.
 */
export async function appendMessage(
  { sql, append, publishAgain }: EventTransaction,
  message: OtherMessage,
): Promise<Message> {
  const { conversationId, id } = message;
  const stored = await findStoredMessage(sql, conversationId, id);
  if (stored) {
    const found = mapRowToMessage(stored);
    publishAgain("message.created", conversationId, { seq: found.seq, at: stored.created_at }, found);
    return found;
  }
  return append("message.created", conversationId, async (position) => {
    await insertMessage(sql, message, position);
    return mapRowToMessage(requireRow(await findMessageById(sql, conversationId, id), "message"));
  });
}
