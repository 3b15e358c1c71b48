import type { DurableEvent, DurableEventType, EventData } from "../../src/protocol/events.ts";

const AT = "2026-01-01T00:00:00.000Z";
const ID = "0190e6f0-0000-7000-8000-0000000000ff";

/** Creates default data for an event. */
function createData(conversation_id: string, seq: number, type: DurableEventType): EventData {
  const times = { created_at: AT, updated_at: AT };
  const person = { user_id: ID, display_name: "Somebody", role: "member" } as const;
  const conversationFields = {
    title: "Test",
    kind: "group",
    model: null,
    prompt_id: null,
    reply_mode: "never",
  } as const;
  const messageFields = {
    role: "user",
    author: null,
    supplied: false,
    reasoning: null,
    output: null,
    content: "text",
    status: "complete",
    client_message_id: null,
  } as const;
  const noAnswer = { model: null, finish_reason: null, usage: null, parent_id: null, error: null };
  switch (type) {
    case "member.added":
      return { ...person, last_read_seq: 0, joined_at: AT };
    case "member.removed":
      return person;
    case "conversation.updated":
      return { ...conversationFields, ...times, id: conversation_id, metadata: {}, last_seq: seq };
    case "conversation.deleted":
      return { id: conversation_id };
    default:
      return { ...messageFields, ...noAnswer, ...times, id: ID, conversation_id, seq, metadata: {}, deleted_at: null };
  }
}

/** Creates an event with default data. The fields of `data` override the default fields. */
export const createTestEvent = (
  conversationId: string,
  seq: number,
  type: DurableEventType = "message.created",
  data: Record<string, unknown> = {},
): DurableEvent =>
  ({
    type,
    conversation_id: conversationId,
    seq,
    at: AT,
    data: { ...createData(conversationId, seq, type), ...data },
  }) as DurableEvent;
