import { requireRow } from "../../db/client.ts";
import type { EventTransaction } from "../../events/log.ts";
import { type Message, mapRowToMessage } from "../../protocol/message.ts";
import { findMessageById, findStoredMessage, insertToolMessage, type ToolMessage } from "./queries.ts";

/**
 * Stores a tool's result with its `message.created` event. Can be retried after a failure.
 * @throws Problem `not_found` if the conversation was deleted.
 */
export async function appendToolMessage(
  { sql, append, republish }: EventTransaction,
  message: ToolMessage,
): Promise<Message> {
  const { conversationId, id } = message;
  const storedRow = await findStoredMessage(sql, conversationId, id);
  if (storedRow) {
    const storedMessage = mapRowToMessage(storedRow);
    republish("message.created", conversationId, { seq: storedMessage.seq, at: storedRow.created_at }, storedMessage);
    return storedMessage;
  }
  return append("message.created", conversationId, async (position) => {
    await insertToolMessage(sql, message, position);
    return mapRowToMessage(requireRow(await findMessageById(sql, conversationId, id), "message"));
  });
}
