import type { Frame } from "../support/socket.ts";

/** A message that a client sent until it was acknowledged. Steps order what happened in this process. */
export type Send = {
  client: string;
  conversationId: string;
  clientMessageId: string;
  content: string;
  /** When it was first sent. */
  sentStep: number;
  /** When the first ack came; null: none came. */
  ackedStep: number | null;
  /** What each ack said: a message that is sent again is acknowledged again. */
  acks: { id: string; seq: number; content: string }[];
};

/** What a client saw of one conversation, in the order in which it came, over all of its connections. */
export type Seen =
  /** A durable event was pushed. */
  | { type: "event"; event: Frame; atMs: number }
  /** A piece of an answer, or the start of its text from anew. */
  | { type: "text"; frame: Frame }
  /** A subscription began behind `afterSeq`; its ack says which events were recovered, and from where pushes go on. */
  | { type: "subscribed"; afterSeq: number; isRecovered: boolean; lastSeq: number; events: Frame[] };

export type View = { client: string; userId: string; conversationId: string; seen: Seen[] };

export type StoredMessage = {
  id: string;
  conversationId: string;
  seq: number;
  role: string;
  clientMessageId: string | null;
  content: string;
  status: string;
};

/** An event that is no message of its own. `userId`: the member that it is about. */
export type StoredEvent = {
  conversationId: string;
  seq: number;
  type: string;
  messageId: string | null;
  userId: string | null;
  /** When it happened, as `Date.now` says it. */
  atMs: number;
};

export type StoredConversation = {
  id: string;
  lastSeq: number;
  memberIds: string[];
  messages: StoredMessage[];
  events: StoredEvent[];
};

/** Two accounts of the same thing, which must agree once it is quiet. */
export type Settled = { what: string; told: unknown; truth: unknown };

/** All that is known of one run of a drill. */
export type History = {
  sends: Send[];
  views: View[];
  stored: StoredConversation[];
  settled: Settled[];
  /** Frames about conversations to which their receiver had not subscribed. */
  stray: { client: string; frame: Frame }[];
  /** What clients were refused for good. */
  refusals: string[];
};

/** What is wrong with a history: the rule that it breaks, and where. */
export type Violation = { rule: Rule; detail: string };
export type Rule =
  | "lost ack"
  | "doubled message"
  | "changed message"
  | "unacknowledged message"
  | "swapped order"
  | "gap"
  | "repeat"
  | "other event"
  | "wrong text"
  | "no end"
  | "not a member"
  | "refused"
  | "not settled";

/** The events of a conversation by their numbers, messages as the `message.created` that they are. */
export function indexEvents({ messages, events }: StoredConversation): Map<number, StoredEvent> {
  const created = messages.map(({ conversationId, seq, id }) => ({
    conversationId,
    seq,
    type: "message.created",
    messageId: id,
    userId: null,
    atMs: 0,
  }));
  return new Map([...created, ...events].map((event) => [event.seq, event]));
}
