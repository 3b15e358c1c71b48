import type { DurableEvent, DurableEventType, EphemeralEvent } from "../protocol/events.ts";

/**
 * Messages between instances about a conversation with listeners. Each instance pushes `presence` and the text of answers to its
 * own listeners.
 */
type RoomMessage =
  | { type: "presence.changed"; conversation_id: string; instance_id: string; user_id: string; online: boolean }
  /** Lists all users who listen on an instance. This is the last message of a response to `room.asked`. */
  | { type: "presence.listed"; conversation_id: string; instance_id: string; user_ids: string[] }
  /** The text and reasoning so far of an answer that the instance writes. `seq` is the sequence number of its message. */
  | {
      type: "answer.text";
      conversation_id: string;
      message_id: string;
      seq: number;
      attempt: number;
      text: string;
      reasoning?: string;
    }
  /** Pushed as `message.delta` with `part`. It has its own type, because older instances would mistake it for the answer's text. */
  | {
      type: "answer.reasoning";
      conversation_id: string;
      message_id: string;
      attempt: number;
      offset: number;
      text: string;
    }
  /** Says that events up to `seq` are stored. Instances with listeners read them from the log. */
  | { type: "events.stored"; conversation_id: string; seq: number }
  /** Says that the conversation is deleted, possibly including its log. */
  | { type: "conversation.gone"; conversation_id: string };

/** A typing message. A user may be typing on several instances. Older instances don't send their id. */
export type TypingMessage = EphemeralEvent<"typing"> & { instance_id?: string };

/** The messages on a conversation's channel. */
export type ConversationMessage =
  | DurableEvent
  | Exclude<EphemeralEvent, { type: "presence" | "typing" }>
  | TypingMessage
  | RoomMessage;

/**
 * Sent by an instance that has started to listen to a conversation, or may have missed something. Every instance responds on
 * the conversation's channel: with an `answer.text` for each answer that it writes there, then `presence.listed`.
 */
type RoomsMessage = { type: "room.asked"; conversation_id: string; instance_id: string };

/** Says that sessions or API keys were revoked or have expired. */
type CredentialsMessage = { type: "credentials.ended"; ids: string[] };

/**
 * Stops an answer on the instance that writes it. The request is also stored, so that an instance that misses this message reads
 * it when it renews its lease.
 */
export type GenerationsMessage = { type: "generation.cancelled"; message_id: string };

/**
 * Announces a change in a conversation, for caches and inboxes. It is small and has no content, because every instance receives
 * it.
 */
export type ConversationsMessage =
  | {
      type: "conversation.changed";
      conversation_id: string;
      /** The type of the change's durable event. */
      event: DurableEventType;
      seq: number;
      at: string;
      /** The author of a created message, or the added or removed member; otherwise absent. */
      user_id?: string;
      /** For `member.added`: true if the user is a new member; absent if only the role changed. */
      joined?: boolean;
      /** For `conversation.updated`: the current title. */
      title?: string;
    }
  /** Says that a member's read position has moved to `seq`. */
  | { type: "conversation.read"; conversation_id: string; user_id: string; seq: number }
  /** Adds a new conversation to the lists of these users, its first members. There are no events for that. */
  | { type: "conversation.listed"; conversation_id: string; user_ids: string[] }
  /** Removes a deleted conversation from the lists of these users. `seq` and `at` are those of its last event. */
  | { type: "conversation.unlisted"; conversation_id: string; seq: number; at: string; user_ids: string[] };

/** Changes that affect responses about many conversations. */
export type UsersMessage =
  /** Says that a user's display name changed, or the user was deleted. */
  | { type: "user.renamed"; user_id: string }
  | { type: "prompts.changed"; user_id: string }
  /** Says that a deleted prompt was removed from conversations. There is no event for that. */
  | { type: "prompts.released" };

/** The channels to which every instance subscribes. Every other channel is the id of a conversation. */
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
  /** Receives a message. @param isRemote whether another instance published it. */
  onMessage(message: Message, isRemote: boolean): void;
  /**
   * Called when messages of other instances may have been lost, so stored state must be read again, and the rest requested. With
   * several instances, it is also called once for each new subscription, as soon as the others' messages are received.
   */
  onGap(): void;
  /** Called when an instance has shut down, or has sent nothing for some seconds. */
  onPeerLost?(instanceId: string): void;
}

/**
 * Carries messages to all instances. Within an instance, a message arrives before `publish` returns. Between instances, delivery
 * is at most once, and in order per sender and channel. If a message may have been lost, subscribers are notified, so that they
 * can read stored state again. Messages are immutable JSON values. Between instances, a durable event may arrive as
 * `events.stored`, without its content.
 */
export interface Bus {
  /** Whether there can be other instances at all. */
  readonly scope: "process" | "instances";
  /**
   * Returns whether messages of all instances currently arrive without delay. While this is false, `onGap` of the shared channels
   * is called every second, and subscribers of a conversation receive `events.stored`, based on the database.
   */
  isHealthy(): boolean;
  /** Returns the ids of the other instances known to be alive. */
  listPeers(): string[];
  /** Returns whether there is certainly no other instance, because this one has listened long enough and received nothing. */
  isAlone(): boolean;
  /** Waits until the other instances know this one; at most two seconds, in case the bus is down. */
  untilAnnounced(): Promise<void>;
  /** Publishes messages. @param create creates them; called only if there may be receivers. Only its errors are thrown. */
  publish<Channel extends string>(channel: Channel, create: () => Iterable<BusMessage<Channel>>): void;
  /** Subscribes to a channel; within this instance, immediately. @returns a function that ends the subscription. */
  subscribe<Channel extends string>(channel: Channel, subscriber: Subscriber<BusMessage<Channel>>): () => void;
  /** Sends the remaining messages and closes the connections. Nothing is received any more. */
  close(): Promise<void>;
}
