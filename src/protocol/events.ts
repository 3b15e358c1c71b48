import { type Static, type TSchema, Type } from "@sinclair/typebox";
import { Closed, Named, OneOf, Timestamp, Uuid } from "../lib/schema.ts";
import { FormerMember, Member, SharedConversation } from "./conversation.ts";
import { Message } from "./message.ts";
import { mapTypeToName } from "./names.ts";

/** The envelope of durable events, the same on sockets, in event streams, over REST and in webhooks. */
const durable = <T extends string, D extends TSchema>(type: T, description: string, data: D) =>
  Named(
    mapTypeToName(type),
    Closed(
      {
        type: Type.Literal(type),
        conversation_id: Uuid(),
        seq: Type.Integer({ minimum: 1, description: "The conversation's own counter: it has no gaps." }),
        at: Timestamp(),
        data,
      },
      { description },
    ),
  );

/**
 * The catalogue of durable events. What an event says of a message or a conversation is their state now, also when it is
 * replayed later.
 */
export const durableEvents = {
  "message.created": durable("message.created", "A user wrote a message, or a model began its response.", Message),
  "message.updated": durable("message.updated", "The author edited a message.", Message),
  "message.deleted": durable(
    "message.deleted",
    "A message was deleted; it stays in the list without its text.",
    Message,
  ),
  "message.completed": durable(
    "message.completed",
    "A model's response has ended: `complete`, `cancelled` or `failed`.",
    Message,
  ),
  "member.added": durable("member.added", "A user became a member, or got another role.", Member),
  "member.removed": durable("member.removed", "A user is no longer a member.", FormerMember),
  "conversation.updated": durable("conversation.updated", "The conversation's settings changed.", SharedConversation),
  "conversation.deleted": durable("conversation.deleted", "The conversation was deleted.", Closed({ id: Uuid() })),
} as const;

export type DurableEventType = keyof typeof durableEvents;
export type DurableEvent<T extends DurableEventType = DurableEventType> = {
  [K in T]: Static<(typeof durableEvents)[K]>;
}[T];
export type EventData<T extends DurableEventType = DurableEventType> = DurableEvent<T>["data"];

export const Event = Named("Event", Type.Union(Object.values(durableEvents)));

/** Where an event stands: numbered by the conversation's counter, without gaps. */
export type EventPosition = { seq: number; at: Date };

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

const ephemeral = <T extends string, P extends Record<string, TSchema>>(type: T, description: string, properties: P) =>
  Named(
    mapTypeToName(type),
    Closed({ type: Type.Literal(type), conversation_id: Uuid(), ...properties }, { description }),
  );

const Attempt = Type.Integer({ description: "Which run of a model writes the text; it only rises." });

/** Ephemeral events: never stored, never replayed. */
export const ephemeralEvents = {
  typing: ephemeral("typing", "Another user types, or has stopped.", {
    user_id: Uuid(),
    active: Type.Boolean(),
    expires_in_ms: Type.Integer({ minimum: 0, description: "Show it no longer than this: the end may get lost." }),
  }),
  presence: ephemeral("presence", "Another user came online in the conversation, or went offline.", {
    user_id: Uuid(),
    online: Type.Boolean(),
  }),
  read: ephemeral("read", "A member's read position moved.", { user_id: Uuid(), seq: Type.Integer({ minimum: 0 }) }),
  "message.delta": ephemeral("message.delta", "The next piece of a response that a model is writing.", {
    message_id: Uuid(),
    attempt: Attempt,
    offset: Type.Integer({ minimum: 0, description: "Length of the text of this part before it, in UTF-16 units." }),
    text: Type.String(),
    part: Type.Optional(
      OneOf(["reasoning"], { description: "`reasoning`: what the model thinks. Absent: the response itself." }),
    ),
  }),
  "message.reset": ephemeral(
    "message.reset",
    "The response continues from this text and this reasoning, which replace what came so far.",
    {
      message_id: Uuid(),
      attempt: Attempt,
      text: Type.String(),
      reasoning: Type.Optional(Type.String({ description: "Absent: none." })),
    },
  ),
} as const;

type EphemeralEventType = keyof typeof ephemeralEvents;
export type EphemeralEvent<T extends EphemeralEventType = EphemeralEventType> = {
  [K in T]: Static<(typeof ephemeralEvents)[K]>;
}[T];

/** Whatever is pushed of a conversation. */
export type ConversationEvent = DurableEvent | EphemeralEvent;
