import type { DurableEvent, DurableEventType, EphemeralEvent } from "../protocol/events.ts";

/**
 * Messages between instances about a conversation with listeners. Each instance pushes `presence` and the text of answers to
 * its own users.
 */
type RoomMessage =
  | { type: "presence.changed"; conversation_id: string; instance_id: string; user_id: string; online: boolean }
  /** All users listening on an instance. Completes the response to `room.asked`. */
  | { type: "presence.listed"; conversation_id: string; instance_id: string; user_ids: string[] }
  /** The text so far of an answer written by the instance, and its reasoning; `seq` is the number of its message. */
  | {
      type: "answer.text";
      conversation_id: string;
      message_id: string;
      seq: number;
      attempt: number;
      text: string;
      reasoning?: string;
    }
  /** Pushed as `message.delta` with `part`. Has its own name, because older instances would take it for text of the answer. */
  | {
      type: "answer.reasoning";
      conversation_id: string;
      message_id: string;
      attempt: number;
      offset: number;
      text: string;
    }
  /** Events up to `seq` are stored: instances with listeners read them from the log. */
  | { type: "events.stored"; conversation_id: string; seq: number }
  /** The conversation is deleted, possibly including its log. */
  | { type: "conversation.gone"; conversation_id: string };

/** A user may type on several instances, and stops when stopped on each. Older instances don't identify themselves. */
export type TypingMessage = EphemeralEvent<"typing"> & { instance_id?: string };

/** Messages of a conversation's channel; `presence` is pushed by each instance to its own listeners. */
export type ConversationMessage =
  | DurableEvent
  | Exclude<EphemeralEvent, { type: "presence" | "typing" }>
  | TypingMessage
  | RoomMessage;

/**
 * An instance has started listening to a conversation, or may have missed something. Every instance responds on the
 * conversation's channel: with an `answer.text` for each answer it writes there, then `presence.listed`.
 */
type RoomsMessage = { type: "room.asked"; conversation_id: string; instance_id: string };

/** Sessions or API keys that have ended. */
type CredentialsMessage = { type: "credentials.ended"; ids: string[] };

/**
 * Stops an answer, wherever it is written. The request is also stored: an instance that misses the message reads it when
 * renewing its lease.
 */
export type GenerationsMessage = { type: "generation.cancelled"; message_id: string };

/**
 * A change in a conversation, without its content: for the caches and inboxes of instances. Every instance receives it, so
 * it is small.
 */
export type ConversationsMessage =
  | {
      type: "conversation.changed";
      conversation_id: string;
      /** The durable event of the change. */
      event: DurableEventType;
      seq: number;
      at: string;
      /** The user who wrote the created message, or the added or removed member; absent otherwise. */
      user_id?: string;
      /** For `member.added`: whether the user is a new member. Absent if only the role changed. */
      joined?: boolean;
      /** For `conversation.updated`: the current title. */
      title?: string;
    }
  /** A member's read position has moved to `seq`. */
  | { type: "conversation.read"; conversation_id: string; user_id: string; seq: number }
  /** A new conversation appears in the lists of these users, its first members: it has no events for them. */
  | { type: "conversation.listed"; conversation_id: string; user_ids: string[] }
  /** A deleted conversation disappears from the lists of these users; `seq` and `at` are those of its last event. */
  | { type: "conversation.unlisted"; conversation_id: string; seq: number; at: string; user_ids: string[] };

/** A change of a user that is visible outside of conversations. */
export type UsersMessage =
  /** The display name changed, or the user was deleted. */
  | { type: "user.renamed"; user_id: string }
  | { type: "prompts.changed"; user_id: string }
  /** A deleted prompt was removed from conversations. It has no event. */
  | { type: "prompts.released" };

/** Channels that every instance subscribes to; every other channel is the id of a conversation. */
type SharedMessages = {
  credentials: CredentialsMessage;
  generations: GenerationsMessage;
  conversations: ConversationsMessage;
  users: UsersMessage;
  rooms: RoomsMessage;
};
export const sharedChannels = [
  "credentials",
  "generations",
  "conversations",
  "users",
  "rooms",
] as const satisfies readonly (keyof SharedMessages)[];

export type BusMessage<Channel extends string> = Channel extends keyof SharedMessages
  ? SharedMessages[Channel]
  : ConversationMessage;

export interface Subscriber<Message> {
  /** @param isRemote published by another instance. */
  onMessage(message: Message, isRemote: boolean): void;
  /**
   * Messages of other instances may have been lost: read stored state again, and request the rest. Between instances it is
   * also called once for each new subscription, as soon as the others can be received.
   */
  onGap(): void;
  /** An instance has shut down, or sent nothing for some seconds. */
  onPeerLost?(instanceId: string): void;
}

/**
 * Carries messages to every instance, with a minimal interface, so that each implementation is one file. Within an instance
 * a message arrives before `publish` returns. Between instances delivery is at most once, and in order per sender and
 * channel. If a message may be lost, the subscribers are notified. So only stored state may depend on the bus. Messages are
 * immutable JSON values.
 * Between instances a durable event may arrive as `events.stored`, without its content.
 */
export interface Bus {
  /** Whether there can be other instances at all. */
  readonly scope: "process" | "instances";
  /**
   * Whether messages of all instances currently arrive without delay. While it is false, `onGap` of the shared channels is
   * called every second, and subscribers of a conversation receive `events.stored` from the database.
   */
  isHealthy(): boolean;
  /** The ids of the other live instances, as far as known. */
  listPeers(): string[];
  /** Whether there is certainly no other instance: it has listened long enough and received nothing. */
  isAlone(): boolean;
  /** Fulfills when the other instances know this one, or after at most two seconds if the bus is down. */
  untilAnnounced(): Promise<void>;
  /** @param create builds the messages; called only if there may be receivers. Only its errors are thrown. */
  publish<Channel extends string>(channel: Channel, create: () => Iterable<BusMessage<Channel>>): void;
  /** Takes effect immediately within this instance. @returns a function that ends the subscription. */
  subscribe<Channel extends string>(channel: Channel, subscriber: Subscriber<BusMessage<Channel>>): () => void;
  /** Sends what is left and closes the connections; nothing more is received. */
  close(): Promise<void>;
}
