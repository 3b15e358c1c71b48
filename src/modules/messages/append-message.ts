import { requireRow } from "../../db/client.ts";
import type { EventTransaction } from "../../events/log.ts";
import { type Message, mapRowToMessage } from "../../protocol/message.ts";
import { findMessageById, insertMessage, type OtherMessage } from "./queries.ts";

/**
 * Stores a message that no user sent, with its `message.created`.
 * @throws Problem `not_found` when the conversation is gone.
 */
export function appendMessage({ sql, append }: EventTransaction, message: OtherMessage): Promise<Message> {
  const { conversationId, id } = message;
  return append("message.created", conversationId, async (position) => {
    await insertMessage(sql, message, position);
    return mapRowToMessage(requireRow(await findMessageById(sql, conversationId, id), "message"));
  });
}
