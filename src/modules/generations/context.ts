import type { ChatMessage } from "../../ai/provider.ts";
import type { Sql } from "../../db/client.ts";
import { type ClaimedGeneration, listContext } from "./queries.ts";

/** Messages that a model is shown, and their length together in UTF-16 units: what fits every model we know. */
export const CONTEXT_MESSAGES_MAX = 100;
export const CONTEXT_CHARS_MAX = 200_000;

/**
 * What the model is shown: the newest messages that fit, up to the one that it answers. Of several answers to one
 * message only the newest counts. For a regenerated answer the conversation ends with the message it answers.
 */
export async function loadContext(sql: Sql, generation: ClaimedGeneration): Promise<ChatMessage[]> {
  const rows = await listContext(sql, generation, CONTEXT_MESSAGES_MAX);
  const answered = new Set<string>();
  const newestFirst: ChatMessage[] = [];
  let chars = 0;
  const asked = rows.findIndex(({ id }) => id === generation.parent_id);
  for (const { role, content, parent_id } of rows.slice(Math.max(asked, 0))) {
    if (role === "assistant" && parent_id !== null) {
      if (answered.has(parent_id)) continue;
      answered.add(parent_id);
    }
    chars += content.length;
    // The message that is answered is always shown, however long it is.
    if (chars > CONTEXT_CHARS_MAX && newestFirst.length > 0) break;
    newestFirst.push({ role, content });
  }
  return newestFirst.reverse();
}
