import type { EventPosition } from "../../protocol/events.ts";
import type { Message } from "../../protocol/message.ts";
import type { NewAnswer } from "../messages/service.ts";
import type { NewAnswerRow } from "./new-answer-queries.ts";
import type { ClaimedGeneration } from "./queries.ts";

/** Maps an empty answer that was just stored to its message, so that the message doesn't have to be read from the database. */
export function mapNewAnswerToMessage(row: NewAnswerRow, { seq, at }: EventPosition): Message {
  return {
    id: row.messageId,
    conversation_id: row.conversationId,
    seq,
    role: "assistant",
    author: null,
    supplied: false,
    content: "",
    status: "streaming",
    model: row.model,
    finish_reason: null,
    usage: null,
    parent_id: row.parentId,
    client_message_id: null,
    error: null,
    reasoning: null,
    output: null,
    metadata: {},
    created_at: at.toISOString(),
    updated_at: at.toISOString(),
    deleted_at: null,
  };
}

/** Maps an answer that was stored with this instance's lease to a claimed generation. */
export function mapNewAnswerToClaimedGeneration(
  answer: Omit<NewAnswer, "isClaimed" | "context" | "requestId" | "trace">,
): ClaimedGeneration {
  return {
    id: answer.generationId,
    message_id: answer.messageId,
    conversation_id: answer.conversationId,
    model: answer.model,
    requested_by: answer.requestedBy,
    reasoning_effort: answer.reasoningEffort,
    reply_format: answer.replyFormat,
    fence: 1,
    interruptions: 0,
    attempt: 0,
    is_cancelled: false,
    seq: answer.seq,
    parent_id: answer.parentId,
    traceparent: null,
    content: "",
    reasoning: "",
  };
}
