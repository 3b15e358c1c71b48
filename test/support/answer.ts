import type { Sql } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import type { ClaimedGeneration } from "../../src/modules/generations/queries.ts";

type TestAnswer = {
  conversationId: string;
  seq?: number;
  /** The id of the message that the answer replies to. */
  parentId?: string | null;
  requestedBy?: string | null;
  /** Whether `requestedBy` is also stored in the message's metadata, as in a regenerated answer. */
  isRegenerated?: boolean;
  /** By default `running`, with a random owner whose lease expires after `leaseMs`. */
  status?: "pending" | "running" | "finished";
  owner?: string;
  leaseMs?: number;
  createdAt?: Date;
  /** The final text if the answer is finished, otherwise the partial text. */
  text?: string;
};

/** Inserts an answer and its generation. The conversation's `last_seq` doesn't change. */
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
  const computeLeaseEnd = () => {
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
      ${computeLeaseEnd()}, ${createdAt}, ${isFinished ? new Date() : null})`;
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
    traceparent: null,
    content: text,
    reasoning: "",
  };
}
