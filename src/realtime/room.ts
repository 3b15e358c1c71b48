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
  /** Does not make its user present: it listens on behalf of one request, say. */
  readonly isHidden?: boolean;
  /** Sends a serialised frame to this listener alone; with the event that it says, where that is at hand. */
  send(text: string, event?: ConversationEvent): void;
  /** Native topic subscription; a listener without topics gets every frame by `send`. */
  readonly topics?: { subscribe(topic: string): void; unsubscribe(topic: string): void };
  /** Called when the membership ends, or the conversation is deleted: nothing more will come. */
  onExpelled?(conversationId: string, why: "removed" | "deleted"): void;
}

/** A user who listens on this instance. */
type User = {
  role: MemberRole;
  /** Up to which event the role is known; older events say nothing new of it. */
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
  /** Who was removed while the room was open: what their instance says of them late is not pushed. */
  removedUserIds: Set<string>;
  direct: Set<Listener>;
  listeners: number;
  joining: number;
  unsubscribe(): void;
};

/** What a member may do in a conversation, as of an event; `hasSeq`: the newest event that they have got before, elsewhere. */
export type Membership = { role: MemberRole; lastSeq: number; hasSeq?: number };

/** What a new listener is told in the very tick in which its pushes begin. */
export type Welcome = { lastSeq: number; missed: DurableEvent[]; usersOnline: string[] };

export function isOnline({ listeners }: User): boolean {
  for (const listener of listeners) if (!listener.isHidden) return true;
  return false;
}

/** The native topic of the pushes of a conversation. */
export const topicOf = (conversationId: string) => `c:${conversationId}`;
