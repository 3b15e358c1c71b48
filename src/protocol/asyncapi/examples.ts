import type { DurableEvent, DurableEventType, EphemeralEvent, EphemeralEventType } from "../events.ts";
import type { ClientFrame, ClientFrameType } from "../frames.ts";
import { announcedLimits } from "../limits.ts";
import type { Ack, AckedFrameType, Push, PushType } from "../pushes.ts";
import { ada, completedAnswer, conversation, ids, member, question, startedAnswer, time } from "./example-data.ts";

const inConversation = { conversation_id: ids.conversation } as const;

/** An example of each client frame. Its id matches the ack below. */
export const frameExamples: { [K in ClientFrameType]: ClientFrame<K> } = {
  auth: { type: "auth", id: "1", token: "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl" },
  subscribe: { type: "subscribe", id: "2", ...inConversation, after_seq: 6 },
  unsubscribe: { type: "unsubscribe", id: "3", ...inConversation },
  "message.send": {
    type: "message.send",
    id: "4",
    ...inConversation,
    client_message_id: question.client_message_id ?? "",
    content: question.content,
    reply: true,
  },
  "message.edit": {
    type: "message.edit",
    id: "5",
    message_id: ids.question,
    content: "How many moons does Mars have?",
  },
  "message.delete": { type: "message.delete", id: "6", message_id: ids.question },
  "generation.cancel": { type: "generation.cancel", id: "7", message_id: ids.answer },
  "generation.regenerate": {
    type: "generation.regenerate",
    id: "8",
    message_id: ids.answer,
    model: "anthropic/claude-sonnet-4-6",
  },
  "typing.start": { type: "typing.start", ...inConversation },
  "typing.stop": { type: "typing.stop", ...inConversation },
  read: { type: "read", id: "9", ...inConversation, seq: 8 },
  "inbox.subscribe": { type: "inbox.subscribe", id: "10" },
  "inbox.unsubscribe": { type: "inbox.unsubscribe", id: "11" },
  ping: { type: "ping", id: "12" },
};

const createDurableExample = <T extends DurableEventType>(type: T, seq: number, data: DurableEvent<T>["data"]) =>
  ({ type, ...inConversation, seq, at: time, data }) as DurableEvent<T>;

export const durableExamples: { [K in DurableEventType]: DurableEvent<K> } = {
  "message.created": createDurableExample("message.created", 7, question),
  "message.updated": createDurableExample("message.updated", 9, {
    ...question,
    content: "How many moons does Mars have?",
  }),
  "message.deleted": createDurableExample("message.deleted", 10, { ...question, content: "", deleted_at: time }),
  "message.completed": createDurableExample("message.completed", 11, completedAnswer),
  "member.added": createDurableExample("member.added", 5, member),
  "member.removed": createDurableExample("member.removed", 6, {
    user_id: ids.bob,
    display_name: "Bob",
    role: "member",
  }),
  "conversation.updated": createDurableExample("conversation.updated", 12, conversation),
  "conversation.deleted": createDurableExample("conversation.deleted", 13, { id: ids.conversation }),
};

/** An example of the ack of each client frame that has one. */
export const ackExamples: { [K in AckedFrameType]: Ack<K> } = {
  auth: { type: "ack", id: "1", expires_at: "2026-01-31T12:15:00.000Z" },
  subscribe: {
    type: "ack",
    id: "2",
    last_seq: 7,
    recovered: true,
    events: [durableExamples["message.created"]],
    members_online: [ids.bob],
  },
  unsubscribe: { type: "ack", id: "3" },
  "message.send": { type: "ack", id: "4", message: question, duplicate: false },
  "message.edit": { type: "ack", id: "5", message: { ...question, content: "How many moons does Mars have?" } },
  "message.delete": { type: "ack", id: "6" },
  "generation.cancel": { type: "ack", id: "7", message: startedAnswer },
  "generation.regenerate": { type: "ack", id: "8", message: startedAnswer },
  read: { type: "ack", id: "9", last_read_seq: 8 },
  "inbox.subscribe": { type: "ack", id: "10", unread: 3 },
  "inbox.unsubscribe": { type: "ack", id: "11" },
};

const ephemeralExamples: { [K in EphemeralEventType]: EphemeralEvent<K> } = {
  typing: { type: "typing", ...inConversation, user_id: ids.bob, active: true, expires_in_ms: 6_000 },
  presence: { type: "presence", ...inConversation, user_id: ids.bob, online: true },
  read: { type: "read", ...inConversation, user_id: ids.bob, seq: 7 },
  "message.delta": {
    type: "message.delta",
    ...inConversation,
    message_id: ids.answer,
    attempt: 1,
    offset: 0,
    text: "Mars has ",
  },
  "message.reset": { type: "message.reset", ...inConversation, message_id: ids.answer, attempt: 2, text: "Mars has " },
};

/** An example of every other frame that the server sends, by type. */
export const pushExamples: { [K in Exclude<PushType, "ack">]: Push<K> } = {
  ready: {
    type: "ready",
    connection_id: ids.connection,
    user: ada,
    heartbeat_ms: 25_000,
    limits: announcedLimits,
    server_time: time,
  },
  error: {
    type: "error",
    id: "4",
    code: "rate_limited",
    detail: "Too many frames. Retry in 2 seconds.",
    temporary: true,
    retry_after_ms: 2_000,
  },
  pong: { type: "pong", id: "12" },
  "server.draining": { type: "server.draining", reconnect_after_ms: 3_200 },
  inbox: {
    type: "inbox",
    ...inConversation,
    change: "updated",
    title: "Plans",
    last_seq: 7,
    last_read_seq: 5,
    unread: 2,
    updated_at: time,
  },
  ...durableExamples,
  ...ephemeralExamples,
};
