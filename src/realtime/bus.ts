import type { DurableEvent, DurableEventType, EphemeralEvent } from "../protocol/events.ts";

/**
 * Messages between instances about a conversation with listeners. They aren't pushed to clients. Each instance uses them to create
 * `presence` and text events for its own listeners.
 */
type RoomMessage =
  | { type: "presence.changed"; conversation_id: string; instance_id: string; user_id: string; online: boolean }
  /** Lists all users with listeners on an instance. This is the last message of a response to `room.asked`. */
  | { type: "presence.listed"; conversation_id: string; instance_id: string; user_ids: string[] }
  /** An answer's text and reasoning so far, from the instance that writes it. `seq` is the message's sequence number. */
  | {
      type: "answer.text";
      conversation_id: string;
      message_id: string;
      seq: number;
      attempt: number;
      text: string;
      reasoning?: string;
    }
  /** Pushed as `message.delta` with `part`. Older instances would mistake a `message.delta` for the answer's text. */
  | {
      type: "answer.reasoning";
      conversation_id: string;
      message_id: string;
      attempt: number;
      offset: number;
      text: string;
    }
  /** Reports that events up to `seq` are stored. Instances with listeners read them from the log. */
  | { type: "events.stored"; conversation_id: string; seq: number }
  /** Reports that the conversation is deleted, possibly including its log. */
  | { type: "conversation.gone"; conversation_id: string };

/** A user may be typing on several instances. Older versions don't send `instance_id`. */
export type TypingMessage = EphemeralEvent<"typing"> & { instance_id?: string };

/** The messages on a conversation's channel. */
export type ConversationMessage =
  | DurableEvent
  | Exclude<EphemeralEvent, { type: "presence" | "typing" }>
  | TypingMessage
  | RoomMessage;

/**
 * Sent by an instance that has just subscribed to a conversation, or may have missed messages. Every instance responds on the
 * conversation's channel: first with an `answer.text` for each answer that it is writing, then with `presence.listed`.
 */
type RoomsMessage = { type: "room.asked"; conversation_id: string; instance_id: string };

/** Reports that sessions or API keys were revoked or have expired. */
type CredentialsMessage = { type: "credentials.ended"; ids: string[] };

/**
 * Stops an answer on the instance that writes it. The cancellation is also stored. An instance that misses this message reads the stored
 * cancellation when it renews its lease.
 */
export type GenerationsMessage = { type: "generation.cancelled"; message_id: string };

/**
 * Announces a change in a conversation, for caches and inboxes. It has no message content, because every instance receives it.
 */
export type ConversationsMessage =
  | {
      type: "conversation.changed";
      conversation_id: string;
      /** The type of the change's durable event. */
      event: DurableEventType;
      seq: number;
      at: string;
      /** The author of a created message, or the added or removed member. Otherwise absent. */
      user_id?: string;
      /** For `member.added`: true if the user is a new member. Absent if only the role changed. */
      joined?: boolean;
      /** For `conversation.updated`: the current title. */
      title?: string;
    }
  /** Reports that a member's read position has moved to `seq`. */
  | { type: "conversation.read"; conversation_id: string; user_id: string; seq: number }
  /** Adds a new conversation to its first members' lists. Creating a conversation stores no event. */
  | { type: "conversation.listed"; conversation_id: string; user_ids: string[] }
  /** Removes a deleted conversation from its members' lists. `seq` and `at` are those of its last event. */
  | { type: "conversation.unlisted"; conversation_id: string; seq: number; at: string; user_ids: string[] };

/** Changes that affect many conversations. */
export type UsersMessage =
  /** Reports that a user was renamed or deleted. */
  | { type: "user.renamed"; user_id: string }
  | { type: "prompts.changed"; user_id: string }
  /** Reports that a deleted prompt was removed from conversations. No event is stored for these changes. */
  | { type: "prompts.released" };

/** The messages on each shared channel. Every instance subscribes to these channels. All other channels are conversation ids. */
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
   * Called when messages from other instances may have been lost. The subscriber must read stored state again, and request all
   * other state. If the bus connects several instances, `onGap` is also called when a new subscription takes effect.
   */
  onGap(): void;
  /** Called when another instance has shut down or has sent nothing for a few seconds. */
  onInstanceLost?(instanceId: string): void;
}

/**
 * Delivers messages to all instances. On the publishing instance, a message arrives before `publish` returns. On other instances,
 * messages arrive at most once, and in order per sender and channel. If a message may have been lost, subscribers are notified
 * through `onGap`. Messages are immutable JSON values. On other instances, `events.stored` may arrive instead of a durable event.
 */
export interface Bus {
  /** Whether the bus connects several instances. */
  readonly scope: "process" | "instances";
  /**
   * Returns whether other instances' messages currently arrive without delay. If they don't, the database is polled every second:
   * `onGap` is called for subscribers of shared channels, and subscribers of conversations receive `events.stored`.
   */
  isHealthy(): boolean;
  /** Returns the ids of the other instances known to be alive. */
  listOtherInstances(): string[];
  /** Returns whether this is certainly the only instance, because it has listened for a while and received nothing. */
  isAlone(): boolean;
  /** Waits until the other instances know this one, for at most two seconds in case the bus is down. */
  waitUntilAnnounced(): Promise<void>;
  /**
   * Publishes messages.
   * @param createMessages called only if there may be subscribers.
   * @throws only errors thrown by `createMessages`.
   */
  publish<Channel extends string>(channel: Channel, createMessages: () => Iterable<BusMessage<Channel>>): void;
  /**
   * Subscribes to a channel. For this instance's own messages, the subscription takes effect immediately. @returns a function to
   * unsubscribe.
   */
  subscribe<Channel extends string>(channel: Channel, subscriber: Subscriber<BusMessage<Channel>>): () => void;
  /** Sends the remaining messages and closes the connections. */
  close(): Promise<void>;
}
