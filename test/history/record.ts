import type { Frame } from "../support/socket.ts";

/** A message that a client sent until it was acknowledged. Steps order the events of this process. */
export type Send = {
  client: string;
  conversationId: string;
  clientMessageId: string;
  content: string;
  /** The step of the first send. */
  sentStep: number;
  /** The step of the first ack; null if none came. */
  ackedStep: number | null;
  /** The content of each ack: a resent message is acknowledged again. */
  acks: { id: string; seq: number; content: string }[];
};

/** What a client saw of one conversation, in order of arrival, over all of its connections. */
export type Seen =
  /** A pushed durable event. */
  | { type: "event"; event: Frame; atMs: number }
  /** A delta or a reset of an answer. */
  | { type: "text"; frame: Frame }
  /** A subscription after `afterSeq`; its ack has the recovered events and the seq from which pushes continue. */
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

/** An event that isn't a message. `userId`: the affected member. */
export type StoredEvent = {
  conversationId: string;
  seq: number;
  type: string;
  messageId: string | null;
  userId: string | null;
  /** In milliseconds since the epoch. */
  atMs: number;
};

export type StoredConversation = {
  id: string;
  lastSeq: number;
  memberIds: string[];
  messages: StoredMessage[];
  events: StoredEvent[];
};

/** Two views of the same state, which must agree once the system has settled. */
export type Settled = { what: string; shown: unknown; truth: unknown };

/** Everything recorded in one drill. */
export type History = {
  sends: Send[];
  views: View[];
  stored: StoredConversation[];
  settled: Settled[];
  /** Frames about conversations that their receiver hadn't subscribed to. */
  stray: { client: string; frame: Frame }[];
  /** Permanent errors that clients received. */
  refusals: string[];
};

/** A violated rule, and where. */
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

/** The events of a conversation by seq, with a `message.created` for each message. */
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
