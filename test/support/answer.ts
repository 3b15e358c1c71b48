import type { Sql } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import type { ClaimedGeneration } from "../../src/modules/generations/queries.ts";

type TestAnswer = {
  conversationId: string;
  seq?: number;
  /** The id of the message that it answers. */
  parentId?: string | null;
  requestedBy?: string | null;
  /** The user who regenerated it, stored with the answer itself. */
  isRegenerated?: boolean;
  /** `running` by default: with an unknown owner, whose lease is valid for `leaseMs`. */
  status?: "pending" | "running" | "finished";
  owner?: string;
  leaseMs?: number;
  createdAt?: Date;
  /** The text so far, or the final text. */
  text?: string;
};

/** Inserts an answer with its generation into the database. The conversation's counter does not change. */
export async function insertAnswer(
  sql: Sql,
  {
    conversationId,
    seq = 1,
    parentId = null,
    requestedBy = null,
    isRegenerated = false,
    status = "running",
    owner = createId(),
    leaseMs = 60_000,
    createdAt = new Date(),
    text = "",
  }: TestAnswer,
): Promise<ClaimedGeneration> {
  const [messageId, id] = [createId(), createId()];
  const isFinished = status === "finished";
  const createLeaseEnd = () => {
    if (isFinished) return null;
    return new Date(status === "running" ? Date.now() + leaseMs : createdAt.getTime() + 5_000);
  };
  const fence = status === "pending" ? 0 : 1;
  await sql`
    insert into messages (id, conversation_id, seq, role, parent_id, content, status, metadata)
    values (${messageId}, ${conversationId}, ${seq}, 'assistant', ${parentId}, ${isFinished ? text : ""},
      ${isFinished ? "complete" : "streaming"}, ${sql.json(isRegenerated ? { requested_by: requestedBy } : {})})`;
  await sql`
    insert into generations (id, message_id, message_seq, conversation_id, requested_by, status, owner, fence,
      lease_until, created_at, finished_at)
    values (${id}, ${messageId}, ${seq}, ${conversationId}, ${requestedBy}, ${status},
      ${status === "running" ? owner : null}, ${fence},
      ${createLeaseEnd()}, ${createdAt}, ${isFinished ? new Date() : null})`;
  if (!isFinished && text !== "")
    await sql`
      insert into generation_pieces (conversation_id, generation_id, n, text) values (${conversationId}, ${id}, 1, ${text})`;
  return {
    id,
    message_id: messageId,
    conversation_id: conversationId,
    model: null,
    requested_by: requestedBy,
    fence,
    interruptions: 0,
    attempt: 0,
    is_cancelled: false,
    seq,
    parent_id: parentId,
    reasoning_effort: null,
    reply_format: null,
    content: text,
    reasoning: "",
  };
}
