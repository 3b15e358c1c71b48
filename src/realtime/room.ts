import type { MemberRole } from "../protocol/conversation.ts";
import type { ConversationEvent, DurableEvent } from "../protocol/events.ts";
import type { Channel } from "./channel.ts";
import type { Presence } from "./presence.ts";
import type { RemoteAnswers } from "./remote-answers.ts";
import type { Survey } from "./survey.ts";
import type { TypingExpiry } from "./typing-expiry.ts";

/** A socket or an event stream that listens to a conversation. */
export interface Listener {
  readonly userId: string;
  /** Whether the user isn't shown as online because of this listener, for example if it serves a single request. */
  readonly isHidden?: boolean;
  /** Sends a serialized frame to this listener, with its event if available. */
  send(text: string, event?: ConversationEvent): void;
  /** Subscribes to native topics. A listener without this gets every frame through `send`. */
  readonly topics?: { subscribe(topic: string): void; unsubscribe(topic: string): void };
  /** Called when the membership ends or the conversation is deleted. Nothing more will be sent. */
  onExpelled?(conversationId: string, why: "removed" | "deleted"): void;
}

/** A user with listeners on this instance. */
type User = {
  role: MemberRole;
  /** The `seq` of the event up to which the role is known. Older events don't change it. */
  roleSeq: number;
  listeners: Set<Listener>;
};

/** A conversation that has listeners on this instance. */
export type Room = {
  channel: Channel;
  users: Map<string, User>;
  presence: Presence;
  remote: RemoteAnswers;
  survey: Survey;
  typing: TypingExpiry;
  /** Users removed while the room was open. Late messages of their instance aren't pushed. */
  removedUserIds: Set<string>;
  direct: Set<Listener>;
  listeners: number;
  joining: number;
  unsubscribe(): void;
};

/** A member's role as of the event `lastSeq`. `receivedSeq` is the newest event that the listener already has. */
export type Membership = { role: MemberRole; lastSeq: number; receivedSeq?: number };

/** What a new listener gets immediately before its pushes begin. */
export type Welcome = { lastSeq: number; missed: DurableEvent[]; usersOnline: string[] };

export function isOnline({ listeners }: User): boolean {
  for (const listener of listeners) if (!listener.isHidden) return true;
  return false;
}

/** Returns the native topic for a conversation's pushes. */
export const topicOf = (conversationId: string) => `c:${conversationId}`;
