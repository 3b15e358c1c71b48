import type { Member, SharedConversation } from "../conversation.ts";
import type { Message } from "../message.ts";
import type { User } from "../user.ts";

export const ids = {
  conversation: "0199a3b0-7d10-7c62-8f0e-2b6d3c1a9e01",
  question: "0199a3b2-5c1f-7a40-9d57-6f3b0c1e2a11",
  answer: "0199a3b2-5c22-7b01-8a3e-91c4d2f0b512",
  ada: "0199a3a9-1e00-7f4a-b0c1-5a2d7e8f9013",
  bob: "0199a3aa-2f00-7d3b-a1c2-6b3e8f9a0114",
  connection: "0199a3b1-0a00-7c0d-9e8f-7c4f9a0b1215",
  webhook: "0199a3ab-3a00-7e1c-8d9e-8d5a0b1c2316",
  generation: "0199a3b2-5c23-7f12-9b4f-a2d5e3f1c617",
} as const;

export const time = "2026-01-31T12:00:00.000Z";

export const ada: User = {
  id: ids.ada,
  email: "ada@example.com",
  display_name: "Ada",
  role: "user",
  disabled: false,
  created_at: "2026-01-01T08:00:00.000Z",
};

export const member: Member = {
  user_id: ids.bob,
  display_name: "Bob",
  role: "member",
  last_read_seq: 0,
  joined_at: time,
};

export const conversation: SharedConversation = {
  id: ids.conversation,
  title: "Plans",
  kind: "group",
  model: null,
  prompt_id: null,
  reply_mode: "mention",
  documents: false,
  tools: false,
  reasoning_effort: null,
  metadata: {},
  last_seq: 12,
  created_at: "2026-01-30T09:00:00.000Z",
  updated_at: time,
};

export const question: Message = {
  id: ids.question,
  conversation_id: ids.conversation,
  seq: 7,
  role: "user",
  author: { id: ids.ada, display_name: "Ada", kind: "user" },
  supplied: false,
  content: "How many moons does Mars have?",
  status: "complete",
  model: null,
  finish_reason: null,
  usage: null,
  parent_id: null,
  client_message_id: "7f9c2ba4-e88f-4275-8f9e-1c0a5f7d3b21",
  error: null,
  reasoning: null,
  output: null,
  metadata: {},
  created_at: time,
  updated_at: time,
  deleted_at: null,
};

/** A response that has just begun and has no text yet. */
export const startedAnswer: Message = {
  ...question,
  id: ids.answer,
  seq: 8,
  role: "assistant",
  author: null,
  content: "",
  status: "streaming",
  parent_id: ids.question,
  client_message_id: null,
};

export const completedAnswer: Message = {
  ...startedAnswer,
  content: "Mars has two moons: Phobos and Deimos.",
  status: "complete",
  model: "openai/gpt-5.2",
  finish_reason: "stop",
  usage: { input_tokens: 42, output_tokens: 11, cost_usd: 0.0002, cached_input_tokens: 0, reasoning_tokens: 0 },
  metadata: { models: ["openai/gpt-5.2"] },
  updated_at: "2026-01-31T12:00:02.000Z",
};
