import { requireRow } from "../../db/client.ts";
import type { EventTransaction } from "../../events/log.ts";
import { type Message, mapRowToMessage } from "../../protocol/message.ts";
import { findMessageById, findStoredMessage, insertToolMessage, type ToolMessage } from "./queries.ts";

/**
 * Stores a tool's result with its `message.created` event. Safe to retry after a failure.
 * @throws Problem `not_found` if the conversation is gone.
 */
export async function appendToolMessage(
  { sql, append, publishAgain }: EventTransaction,
  message: ToolMessage,
): Promise<Message> {
  const { conversationId, id } = message;
  const stored = await findStoredMessage(sql, conversationId, id);
  if (stored) {
    const found = mapRowToMessage(stored);
    publishAgain("message.created", conversationId, { seq: found.seq, at: stored.created_at }, found);
    return found;
  }
  return append("message.created", conversationId, async (position) => {
    await insertToolMessage(sql, message, position);
    return mapRowToMessage(requireRow(await findMessageById(sql, conversationId, id), "message"));
  });
}
