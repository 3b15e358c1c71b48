import type { DurableEvent, DurableEventType, EphemeralEvent } from "../protocol/events.ts";

/**
 * What instances tell each other of a conversation that somebody listens to. Users are pushed `presence` and the text of
 * answers by their own instance.
 */
type RoomMessage =
  | { type: "presence.changed"; conversation_id: string; instance_id: string; user_id: string; online: boolean }
  /** All users who listen on an instance. It ends the response to `room.asked`. */
  | { type: "presence.listed"; conversation_id: string; instance_id: string; user_ids: string[] }
  /**
   * The text so far of an answer that the instance writes, and what its model has thought; `seq` is the number of its
   * message.
   */
  | {
      type: "answer.text";
      conversation_id: string;
      message_id: string;
      seq: number;
      attempt: number;
      text: string;
      reasoning?: string;
    }
  /** Pushed as `message.delta` with `part`: by that name, older instances would take it for text of the answer. */
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
  /** The conversation is deleted, and perhaps its log with it. */
  | { type: "conversation.gone"; conversation_id: string };

/** A user may type on several instances: they stop when they have stopped on each. Older instances don't name themselves. */
export type TypingMessage = EphemeralEvent<"typing"> & { instance_id?: string };

/** What goes through the channel of a conversation; `presence` is pushed by each instance to its own listeners. */
export type ConversationMessage =
  | DurableEvent
  | Exclude<EphemeralEvent, { type: "presence" | "typing" }>
  | TypingMessage
  | RoomMessage;

/**
 * An instance has begun to listen to a conversation, or may have missed something. Every instance responds through the channel
 * of the conversation: with an `answer.text` for each answer it writes there, then `presence.listed`.
 */
type RoomsMessage = { type: "room.asked"; conversation_id: string; instance_id: string };

/** Sessions or API keys that have ended. */
type CredentialsMessage = { type: "credentials.ended"; ids: string[] };

/** An answer is to stop, wherever it is written. That it shall is stored: whoever misses it reads it with the lease. */
export type GenerationsMessage = { type: "generation.cancelled"; message_id: string };

/**
 * What has changed in any conversation, without what it says: for what an instance remembers of conversations, and for
 * inboxes. Every instance gets it, so it is small.
 */
export type ConversationsMessage =
  | {
      type: "conversation.changed";
      conversation_id: string;
      /** The durable event that tells of it. */
      event: DurableEventType;
      seq: number;
      at: string;
      /** The user who wrote the created message, or the member who was added or removed; absent otherwise. */
      user_id?: string;
      /** Of `member.added`: the user was no member before. Absent when they only got another role. */
      joined?: boolean;
      /** The title now, of `conversation.updated`. */
      title?: string;
    }
  /** A member's read position has moved to `seq`. */
  | { type: "conversation.read"; conversation_id: string; user_id: string; seq: number }
  /** A new conversation is in the lists of these users, who are its first members: no event tells of them. */
  | { type: "conversation.listed"; conversation_id: string; user_ids: string[] }
  /** A deleted conversation is gone from the lists of these users; `seq` and `at` are those of its last event. */
  | { type: "conversation.unlisted"; conversation_id: string; seq: number; at: string; user_ids: string[] };

/** A change of a user that responses show, besides their conversations. */
export type UsersMessage =
  /** The name that others see, or the user is gone. */
  | { type: "user.renamed"; user_id: string }
  | { type: "prompts.changed"; user_id: string }
  /** Conversations have lost a prompt that was deleted. No event tells of it. */
  | { type: "prompts.released" };

/** Channels that every instance hears; every other one has the id of its conversation. */
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
  /** @param isRemote another instance has published it. */
  onMessage(message: Message, isRemote: boolean): void;
  /**
   * Messages of other instances may have been lost: read again what is stored, and ask for what is not. Between instances it is
   * also called once for each new subscription, as soon as the others are heard.
   */
  onGap(): void;
  /** An instance has ended, or has not been heard for some seconds. */
  onGone?(instanceId: string): void;
}

/**
 * Carries messages to every instance, as narrow as it can be, so that another form of it is one file. Within an instance a
 * message arrives before `publish` returns. Between instances it arrives at most once, and what one instance publishes to a
 * channel arrives in its order; it may get lost, and then the subscribers are told that something did. So nothing may depend on
 * it that is not stored as well. Messages are JSON values; nobody may change one.
 *
 * Between instances a durable event may arrive as `events.stored`, without what it says.
 */
export interface Bus {
  /** Whether there can be other instances at all. */
  readonly reach: "process" | "instances";
  /**
   * Whether messages of all instances arrive now, at once. While it is false, `onGap` of the shared channels is called every
   * second, and subscribers of a conversation are told by `events.stored` what the database has.
   */
  isHealthy(): boolean;
  /** The ids of the other instances that are alive, as far as they have been heard. */
  listPeers(): string[];
  /** Whether it is certain that there is no other instance: it has listened for long enough, and hears nobody. */
  isAlone(): boolean;
  /** Fulfils when the other instances have heard of this one, or after two seconds at most, if the bus carries nothing. */
  untilHeard(): Promise<void>;
  /** @param create makes the messages; it is called only if somebody may hear them. Nothing is thrown but by it. */
  publish<Channel extends string>(channel: Channel, create: () => Iterable<BusMessage<Channel>>): void;
  /** Takes effect at once within this instance. @returns ends the subscription. */
  subscribe<Channel extends string>(channel: Channel, subscriber: Subscriber<BusMessage<Channel>>): () => void;
  /** Sends what is left, and ends the connections; nothing of other instances arrives any more. */
  close(): Promise<void>;
}
