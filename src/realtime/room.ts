import type { MemberRole } from "../protocol/conversation.ts";
import type { ConversationEvent, DurableEvent } from "../protocol/events.ts";
import type { Channel } from "./channel.ts";
import type { Presence } from "./presence.ts";
import type { RemoteAnswers } from "./remote-answers.ts";
import type { Survey } from "./survey.ts";
import type { TypingExpiry } from "./typing-expiry.ts";

/** A socket or an event stream that listens. */
export interface Listener {
  readonly userId: string;
  /** Doesn't make its user present: it listens on behalf of one request, for example. */
  readonly isHidden?: boolean;
  /** Sends a serialized frame to this listener only; with its event, if available. */
  send(text: string, event?: ConversationEvent): void;
  /** Native topic subscription; a listener without topics gets every frame through `send`. */
  readonly topics?: { subscribe(topic: string): void; unsubscribe(topic: string): void };
  /** Called when the membership ends, or the conversation is deleted: nothing more will come. */
  onExpelled?(conversationId: string, why: "removed" | "deleted"): void;
}

/** A user who listens on this instance. */
type User = {
  role: MemberRole;
  /** The role is known up to this event; older events don't change it. */
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
  /** Users removed while the room was open: late messages of their instance are not pushed. */
  removedUserIds: Set<string>;
  direct: Set<Listener>;
  listeners: number;
  joining: number;
  unsubscribe(): void;
};

/**
 * A member's role in a conversation, as of an event; `receivedSeq` is the newest event that the listener already has.
 */
export type Membership = { role: MemberRole; lastSeq: number; receivedSeq?: number };

/** Sent to a new listener in the tick in which its pushes begin. */
export type Welcome = { lastSeq: number; missed: DurableEvent[]; usersOnline: string[] };

export function isOnline({ listeners }: User): boolean {
  for (const listener of listeners) if (!listener.isHidden) return true;
  return false;
}

/** The native topic of the pushes of a conversation. */
export const topicOf = (conversationId: string) => `c:${conversationId}`;
