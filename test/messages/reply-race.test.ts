import { expect, test } from "bun:test";
import type { Caller } from "../../src/access/caller.ts";
import { createStreamRegistry } from "../../src/access/open-streams.ts";
import type { EventLog } from "../../src/events/log.ts";
import { createId } from "../../src/lib/id.ts";
import type { Slots } from "../../src/limits/slots.ts";
import { createStreams, type Recovery } from "../../src/modules/messages/service.ts";
import type { Message } from "../../src/protocol/message.ts";
import { createTestEvent } from "../support/test-events.ts";
import { createTestHub } from "../support/test-hub.ts";

const conversationId = createId();
const caller: Caller = {
  user: { id: createId(), email: "a@example.com", display_name: "A", role: "user", created_at: new Date() },
  credentialId: createId(),
  scopes: null,
  expiresAtMs: Number.POSITIVE_INFINITY,
  ipAddress: null,
};

function createMessage(seq: number, overrides: Partial<Message>): Message {
  const now = new Date().toISOString();
  return {
    author: null,
    supplied: false,
    model: null,
    finish_reason: null,
    usage: null,
    parent_id: null,
    error: null,
    reasoning: null,
    output: null,
    created_at: now,
    updated_at: now,
    deleted_at: null,
    id: createId(),
    conversation_id: conversationId,
    seq,
    role: "user",
    content: "question",
    status: "complete",
    client_message_id: "c1",
    metadata: {},
    ...overrides,
  };
}

test("a resent message's stream ends with the answer, even if the answer finishes while the stream's start is loaded", async () => {
  const hub = createTestHub();
  const message = createMessage(1, {});
  const streamingAnswer = createMessage(2, {
    role: "assistant",
    status: "streaming",
    content: "",
    parent_id: message.id,
  });
  const completedAnswer: Message = { ...streamingAnswer, status: "complete", content: "answer" };
  let reply = streamingAnswer;
  const createCompletedEvent = (data: Message) =>
    ({ type: "message.completed", conversation_id: conversationId, seq: 3, at: data.updated_at, data }) as const;
  const recovery = {
    async getStartPosition() {
      // The stream starts after the answer's end, so new listeners don't receive the event.
      reply = completedAnswer;
      hub.publish(createCompletedEvent(completedAnswer));
      return { role: "member" as const, lastSeq: 3, recovered: false, events: [] };
    },
    reload: async () => ({ message, reply }),
  } as Recovery;
  const events: Pick<EventLog, "findCompletion"> = { findCompletion: async (answer) => createCompletedEvent(answer) };
  const streams = createStreams({ hub, events, recovery, feedSlots: {} as Slots, openStreams: createStreamRegistry() });
  const sendMessage = async () => ({ message, reply, duplicate: true });
  const request = new Request("http://parley/", { method: "POST" });
  const response = await streams.openReply(caller, conversationId, sendMessage, request, null);
  const text = await response.text();
  expect(text.match(/^event: .*/gm)).toEqual([
    "event: message.created",
    "event: message.created",
    "event: message.completed",
  ]);
  expect(text).toContain('"content":"answer"');
});

test("a new message's stream ends with the answer and sends the message only once, even if its start is loaded twice", async () => {
  const hub = createTestHub();
  const message = createMessage(1, {});
  const reply = createMessage(2, { role: "assistant", status: "streaming", content: "", parent_id: message.id });
  const completedAnswer: Message = { ...reply, status: "complete", content: "answer" };
  const eventFields = { conversation_id: conversationId, seq: 4, at: completedAnswer.updated_at };
  const event = { type: "message.completed", ...eventFields, data: completedAnswer } as const;
  let sendCount = 0;
  const recovery = {
    async getStartPosition() {
      hub.publish(event);
      return { role: "member" as const, lastSeq: 4, recovered: false, events: [] };
    },
    reload: async () => ({ message, reply: completedAnswer }),
  } as Recovery;
  const events: Pick<EventLog, "findCompletion"> = { findCompletion: async () => event };
  const streams = createStreams({ hub, events, recovery, feedSlots: {} as Slots, openStreams: createStreamRegistry() });
  const sendMessage = async () => {
    sendCount += 1;
    // The caller's role changes, so the join has to be retried.
    hub.publish(createTestEvent(conversationId, 3, "member.added", { user_id: createId(), role: "member" }));
    return { message, reply };
  };
  const request = new Request("http://parley/", { method: "POST" });
  const response = await streams.openReply(caller, conversationId, sendMessage, request, null);
  const text = await response.text();
  expect(text.match(/^event: .*/gm)?.at(-1)).toBe("event: message.completed");
  expect(sendCount).toBe(1);
});
