import type { DurableEvent, EphemeralEvent } from "../protocol/events.ts";

/** Which users of an instance listen to a conversation. Instances tell it each other; users are pushed `presence`. */
type PresenceMessage =
  | { type: "presence.changed"; conversation_id: string; instance_id: string; user_id: string; online: boolean }
  /** An instance has begun to listen, or may have missed something: the others are to answer by `presence.listed`. */
  | { type: "presence.asked"; conversation_id: string; instance_id: string }
  | { type: "presence.listed"; conversation_id: string; instance_id: string; user_ids: string[] };

/** What goes through the channel of a conversation; `presence` is pushed by each instance to its own listeners. */
export type ConversationMessage = DurableEvent | Exclude<EphemeralEvent, { type: "presence" }> | PresenceMessage;

/** Sessions or API keys that have ended. */
type CredentialsMessage = { type: "credentials.ended"; ids: string[] };

/** An answer is to stop, wherever it is written. That it shall is stored: whoever misses it reads it with the lease. */
export type GenerationsMessage = { type: "generation.cancelled"; message_id: string };

/** Two channels for all instances; every other one has the id of its conversation. */
export type BusMessage<Channel extends string> = Channel extends "credentials"
  ? CredentialsMessage
  : Channel extends "generations"
    ? GenerationsMessage
    : ConversationMessage;

export interface Subscriber<Message> {
  onMessage(message: Message): void;
  /** Messages may have been lost: what is stored must be read, and what is not must be asked for. */
  onGap(): void;
}

/**
 * The way of messages to every instance, as narrow as it can be, so that another form of it is one file. Within an instance a message arrives
 * before `publish` returns. Between instances it arrives at most once, and what one instance publishes to a channel
 * arrives in its order; it may get lost, and then the subscribers are told that something did. So nothing may depend on it that is not
 * stored as well. Messages are JSON values; nobody may change one.
 */
export interface Bus {
  /** @param create makes the messages; it is called only if somebody may hear them. Nothing is thrown but by it. */
  publish<Channel extends string>(channel: Channel, create: () => Iterable<BusMessage<Channel>>): void;
  /**
   * Takes effect at once within this instance. Where the others take longer, `onGap` is called when they are heard too.
   * @returns ends the subscription.
   */
  subscribe<Channel extends string>(channel: Channel, subscriber: Subscriber<BusMessage<Channel>>): () => void;
}
