import { type Static, Type } from "@sinclair/typebox";
import { OneOf, Timestamp, Uuid } from "../lib/schema.ts";
import { FormerMember, Member, SharedConversation } from "./conversation.ts";
import { Message } from "./message.ts";

/**
 * The catalogue of durable events: each type, with the schema of its `data`. What an event says of a message or a
 * conversation is their state now, also when it is replayed later.
 */
export const durableEvents = {
  "message.created": Message,
  "message.updated": Message,
  "message.deleted": Message,
  /** An answer in its final state: complete, cancelled or failed. */
  "message.completed": Message,
  /** A new member, or a member's new role. */
  "member.added": Member,
  "member.removed": FormerMember,
  "conversation.updated": SharedConversation,
  "conversation.deleted": Type.Object({ id: Uuid() }),
} as const;

export type DurableEventType = keyof typeof durableEvents;
export type EventData<T extends DurableEventType = DurableEventType> = Static<(typeof durableEvents)[T]>;

/** Where an event stands: numbered by the conversation's counter, without gaps. */
export type EventPosition = { seq: number; at: Date };

/** The envelope of durable events, the same on sockets, in event streams, over REST and in webhooks. */
export type DurableEvent<T extends DurableEventType = DurableEventType> = {
  [K in T]: { type: K; conversation_id: string; seq: number; at: string; data: EventData<K> };
}[T];

/** The envelope as a schema, one for each type. */
export const Event = Type.Union(
  Object.entries(durableEvents).map(([type, data]) =>
    Type.Object({ type: OneOf([type]), conversation_id: Uuid(), seq: Type.Integer(), at: Timestamp(), data }),
  ),
);

export function createEvent<T extends DurableEventType>(
  type: T,
  conversationId: string,
  { seq, at }: EventPosition,
  data: EventData<T>,
): DurableEvent<T> {
  return { type, conversation_id: conversationId, seq, at: at.toISOString(), data } as DurableEvent<T>;
}

export type MessageEvent = Extract<DurableEvent, { type: `message.${string}` }>;

export const isMessageEvent = (event: DurableEvent): event is MessageEvent => event.type.startsWith("message.");

/** Ephemeral events: never stored, never replayed. */
export type EphemeralEvent =
  | { type: "typing"; conversation_id: string; user_id: string; active: boolean; expires_in_ms: number }
  | { type: "presence"; conversation_id: string; user_id: string; online: boolean }
  | { type: "read"; conversation_id: string; user_id: string; seq: number }
  | {
      type: "message.delta";
      conversation_id: string;
      message_id: string;
      attempt: number;
      offset: number;
      text: string;
    }
  | { type: "message.reset"; conversation_id: string; message_id: string; attempt: number; text: string };
