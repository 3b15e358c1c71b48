import type { MemberRole } from "../protocol/conversation.ts";
import type { ConversationEvent, DurableEvent } from "../protocol/events.ts";
import type { Channel } from "./channel.ts";
import type { Presence } from "./presence.ts";
import type { RemoteAnswers } from "./remote-answers.ts";
import type { RoomSync } from "./room-sync.ts";
import type { TypingExpiry } from "./typing-expiry.ts";

/** A socket or an event stream that listens to a conversation. */
export interface Listener {
  readonly userId: string;
  /** If true, this listener doesn't make its user appear online. Single requests use this. */
  readonly isHidden?: boolean;
  /** Sends a serialized frame to this listener, with its event if available. */
  send(text: string, event?: ConversationEvent): void;
  /** Subscribes to native topics. If absent, every frame is sent through `send`. */
  readonly topics?: { subscribe(topic: string): void; unsubscribe(topic: string): void };
  /** Called when the user was removed or the conversation was deleted. Nothing is sent to this listener afterwards. */
  onExpelled?(conversationId: string, reason: "removed" | "deleted"): void;
}

/** A user with listeners on this instance. */
type User = {
  role: MemberRole;
  /** The conversation's newest `seq` when the role was read or last changed. Older events don't change the role. */
  roleSeq: number;
  listeners: Set<Listener>;
};

/** A conversation that has listeners on this instance. */
export type Room = {
  channel: Channel;
  users: Map<string, User>;
  presence: Presence;
  remoteAnswers: RemoteAnswers;
  sync: RoomSync;
  typing: TypingExpiry;
  /** Users who were removed while the room was open. If their typing events arrive late, they aren't pushed. */
  removedUserIds: Set<string>;
  /** The listeners without `topics`. */
  directListeners: Set<Listener>;
  listenerCount: number;
  joinCount: number;
  unsubscribe(): void;
};

/** A member's role as of `lastSeq`. `receivedSeq` is the newest event that the listener already has. */
export type Membership = { role: MemberRole; lastSeq: number; receivedSeq?: number };

/** The state that a new listener receives immediately before its first push. */
export type Welcome = { lastSeq: number; missedEvents: DurableEvent[]; usersOnline: string[] };

export function isOnline({ listeners }: User): boolean {
  for (const listener of listeners) if (!listener.isHidden) return true;
  return false;
}

/** Returns the native topic for a conversation's pushes. */
export const createTopic = (conversationId: string) => `c:${conversationId}`;
