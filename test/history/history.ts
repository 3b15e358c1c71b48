import type { Frame } from "../support/socket.ts";

/** A message that a client sent until it was acknowledged. Steps are numbers that order the sends and acks of all clients. */
export type Send = {
  client: string;
  conversationId: string;
  clientMessageId: string;
  content: string;
  /** The step of the first send. */
  sentStep: number;
  /** The step of the first ack, or null if there was none. */
  ackedStep: number | null;
  /** The message in each ack. A resent message is acknowledged again. */
  acks: { id: string; seq: number; content: string }[];
};

/** Something that a client received in a conversation. */
export type Observation =
  /** A pushed durable event. */
  | { type: "event"; event: Frame; atMs: number }
  /** A delta or a reset of an answer. */
  | { type: "text"; frame: Frame }
  /** The ack of a subscription, with the recovered events and the sequence number after which pushes continue. */
  | { type: "subscribed"; afterSeq: number; isRecovered: boolean; lastSeq: number; events: Frame[] };

/** A client's observations in a conversation over all of its connections, in order of arrival. */
export type View = { client: string; userId: string; conversationId: string; observations: Observation[] };

export type StoredMessage = {
  id: string;
  conversationId: string;
  seq: number;
  role: string;
  clientMessageId: string | null;
  content: string;
  status: string;
};

/** A stored event other than `message.created`. `userId` is the affected member's ID. */
export type StoredEvent = {
  conversationId: string;
  seq: number;
  type: string;
  messageId: string | null;
  userId: string | null;
  /** Milliseconds since the Unix epoch. */
  atMs: number;
};

export type StoredConversation = {
  id: string;
  lastSeq: number;
  memberIds: string[];
  messages: StoredMessage[];
  events: StoredEvent[];
};

/** A client's view and the stored state, which must be equal once the system has settled. */
export type ViewComparison = { name: string; actual: unknown; expected: unknown };

/** Everything recorded in one drill. */
export type History = {
  sends: Send[];
  views: View[];
  stored: StoredConversation[];
  comparisons: ViewComparison[];
  /** Frames of conversations to which the client wasn't subscribed. */
  unexpectedFrames: { client: string; frame: Frame }[];
  permanentErrors: string[];
};

/** A violation of a rule, with its details. */
export type Violation = { rule: Rule; detail: string };
export type Rule =
  | "lost message"
  | "duplicate message"
  | "changed message"
  | "unacknowledged message"
  | "incorrect order"
  | "gap"
  | "duplicate"
  | "incorrect event"
  | "incorrect text"
  | "unfinished answer"
  | "not a member"
  | "permanent error"
  | "outdated view";

/** Returns the events of a conversation by sequence number, with a `message.created` for each message. */
export function indexEvents({ messages, events }: StoredConversation): Map<number, StoredEvent> {
  const createdEvents = messages.map(({ conversationId, seq, id }) => ({
    conversationId,
    seq,
    type: "message.created",
    messageId: id,
    userId: null,
    atMs: 0,
  }));
  return new Map([...createdEvents, ...events].map((event) => [event.seq, event]));
}
