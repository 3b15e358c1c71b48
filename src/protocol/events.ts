import { type Static, type TSchema, Type } from "@sinclair/typebox";
import { Closed, Named, OneOf, Timestamp, Uuid } from "../lib/schema.ts";
import { FormerMember, Member, SharedConversation } from "./conversation.ts";
import { Message } from "./message.ts";
import { mapTypeToName } from "./names.ts";

/** Creates the schema of a durable event. Its envelope is the same on sockets, in event streams and over REST. */
const createDurableSchema = <T extends string, D extends TSchema>(type: T, description: string, data: D) =>
  Named(
    mapTypeToName(type),
    Closed(
      {
        type: Type.Literal(type),
        conversation_id: Uuid(),
        seq: Type.Integer({
          minimum: 1,
          description: "The event's sequence number in the conversation, without gaps.",
        }),
        at: Timestamp(),
        data,
      },
      { description },
    ),
  );

/** All durable events. A replayed event contains the current state of its message or conversation. */
export const durableEvents = {
  "message.created": createDurableSchema(
    "message.created",
    "A user wrote a message, or a model started a response.",
    Message,
  ),
  "message.updated": createDurableSchema("message.updated", "The author edited a message.", Message),
  "message.deleted": createDurableSchema(
    "message.deleted",
    "A message was deleted. It remains in the list without its text.",
    Message,
  ),
  "message.completed": createDurableSchema(
    "message.completed",
    "A model's response has ended: `complete`, `cancelled` or `failed`.",
    Message,
  ),
  "member.added": createDurableSchema("member.added", "A user became a member, or their role changed.", Member),
  "member.removed": createDurableSchema("member.removed", "A user is no longer a member.", FormerMember),
  "conversation.updated": createDurableSchema(
    "conversation.updated",
    "The conversation's settings changed.",
    SharedConversation,
  ),
  "conversation.deleted": createDurableSchema(
    "conversation.deleted",
    "The conversation was deleted.",
    Closed({ id: Uuid() }),
  ),
} as const;

export type DurableEventType = keyof typeof durableEvents;
export type DurableEvent<T extends DurableEventType = DurableEventType> = {
  [K in T]: Static<(typeof durableEvents)[K]>;
}[T];
export type EventData<T extends DurableEventType = DurableEventType> = DurableEvent<T>["data"];

export const Event = Named("Event", Type.Union(Object.values(durableEvents)));

/** The sequence number and time of an event. */
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

const createEphemeralSchema = <T extends string, P extends Record<string, TSchema>>(
  type: T,
  description: string,
  properties: P,
) =>
  Named(
    mapTypeToName(type),
    Closed({ type: Type.Literal(type), conversation_id: Uuid(), ...properties }, { description }),
  );

const Attempt = Type.Integer({
  description: "The number of the attempt to write the response. It increases with each attempt.",
});

/** Ephemeral events, which are never stored or replayed. */
export const ephemeralEvents = {
  typing: createEphemeralSchema("typing", "Another user started or stopped typing.", {
    user_id: Uuid(),
    active: Type.Boolean(),
    expires_in_ms: Type.Integer({
      minimum: 0,
      description: "Hide it after this time, because the stop event may get lost.",
    }),
  }),
  presence: createEphemeralSchema("presence", "Another user went online or offline in the conversation.", {
    user_id: Uuid(),
    online: Type.Boolean(),
  }),
  read: createEphemeralSchema("read", "A member's read position moved.", {
    user_id: Uuid(),
    seq: Type.Integer({ minimum: 0 }),
  }),
  "message.delta": createEphemeralSchema("message.delta", "The next chunk of a response in progress.", {
    message_id: Uuid(),
    attempt: Attempt,
    offset: Type.Integer({
      minimum: 0,
      description: "The offset of the chunk in the text of this part, in UTF-16 code units.",
    }),
    text: Type.String(),
    part: Type.Optional(
      OneOf(["reasoning"], {
        description:
          "`reasoning` if the chunk belongs to the model's reasoning. If the field is absent: the response's text.",
      }),
    ),
  }),
  "message.reset": createEphemeralSchema(
    "message.reset",
    "The response continues from this text and reasoning, which replace everything received so far.",
    {
      message_id: Uuid(),
      attempt: Attempt,
      text: Type.String(),
      reasoning: Type.Optional(Type.String({ description: "Absent if there is none." })),
    },
  ),
} as const;

export type EphemeralEventType = keyof typeof ephemeralEvents;
export type EphemeralEvent<T extends EphemeralEventType = EphemeralEventType> = {
  [K in T]: Static<(typeof ephemeralEvents)[K]>;
}[T];

/** An event that is pushed to a conversation's subscribers. */
export type ConversationEvent = DurableEvent | EphemeralEvent;
