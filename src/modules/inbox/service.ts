import type { Database } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Bus, ConversationsMessage } from "../../realtime/bus.ts";
import { type InboxListener, InboxUsers } from "./inbox-users.ts";
import { createLooks } from "./looks.ts";
import { Members } from "./members.ts";
import { type Note, Pending } from "./pending.ts";
import { countUnread } from "./queries.ts";
import { createResync } from "./resync.ts";

/** Pending conversations. Beyond this they are dropped, and the inboxes are compared with the lists. */
const PENDING_MAX = 100_000;

/**
 * Tells sockets what changes in all conversations of their user (docs/decisions/0078). That something has changed comes over the
 * bus; what it looks like now is read from the database when its frames are due, for all of them at once.
 */
export interface Inbox {
  /**
   * From here on the listener gets the frames of its user, who is known to be let in.
   * @param welcome is called before the first of them, with what is unread in all conversations, counted up to 1,000. Not if
   * the listener left meanwhile.
   * @throws what the database throws; then nothing has begun.
   */
  subscribe(listener: InboxListener, welcome: (unread: number) => void): Promise<void>;

  /** After it, nothing more comes; also for one that has not subscribed. */
  unsubscribe(listener: InboxListener): void;

  has(listener: InboxListener): boolean;
}

type Dependencies = {
  database: Database;
  bus: Pick<Bus, "subscribe">;
  log: Log;
  /** Counts frames that were sent to how many listeners. */
  onPushed(type: string, listeners: number): void;
};

export function createInbox({ database, bus, log, onPushed }: Dependencies): Inbox {
  const users = new InboxUsers({ log, onPushed });
  const pending = new Pending();
  const members = new Members();
  const looks = createLooks({ database, log, users, members, pending });
  const resync = createResync({ database, log, findTold: (userId) => users.findTold(userId), markUser });
  let endSubscription: (() => void) | undefined;

  function markUser(conversationId: string, userId: string, note: Note = {}): void {
    if (!users.has(userId)) return;
    pending.markUser(conversationId, userId, note, performance.now());
    looks.schedule();
  }

  function markAll(conversationId: string): void {
    if (pending.size >= PENDING_MAX) {
      pending.clear();
      startAgain();
      return;
    }
    pending.markAll(conversationId, performance.now());
    looks.schedule();
  }

  function onMessage(message: ConversationsMessage): void {
    const { conversation_id } = message;
    switch (message.type) {
      case "conversation.read":
        markUser(conversation_id, message.user_id);
        return;
      case "conversation.listed":
        for (const userId of message.user_ids) begin(conversation_id, userId, true);
        return;
      case "conversation.unlisted":
        for (const userId of message.user_ids) end(userId, message);
        return;
      case "conversation.changed":
        onChanged(message);
    }
  }

  function onChanged(message: ConversationsMessage & { type: "conversation.changed" }): void {
    const { conversation_id, event, user_id, joined } = message;
    // `conversation.unlisted` covers its members.
    if (event === "conversation.deleted") return;
    if (event === "member.added" && user_id !== undefined) begin(conversation_id, user_id, joined === true);
    else if (event === "member.removed" && user_id !== undefined) end(user_id, message);
    markAll(conversation_id);
  }

  function begin(conversationId: string, userId: string, isAdded: boolean): void {
    members.change(conversationId, userId, true);
    if (isAdded) markUser(conversationId, userId, { isAdded });
  }

  type Ended = { conversation_id: string; seq: number; at: string };
  function end(userId: string, { conversation_id, seq, at }: Ended): void {
    members.change(conversation_id, userId, false);
    markUser(conversation_id, userId, { removed: { seq, at } });
  }

  /** Messages may have been lost: clears the members, and compares every inbox with the list. */
  function startAgain(): void {
    members.clear();
    resync.start(users.list());
  }

  function unsubscribe(listener: InboxListener): void {
    users.remove(listener);
    if (users.size > 0) return;
    // No messages arrive from here on, so the members would become stale.
    endSubscription?.();
    endSubscription = undefined;
    looks.stop();
    members.clear();
    pending.clear();
  }

  return {
    async subscribe(listener, welcome) {
      const isSubscribed = users.hasListener(listener);
      if (!users.has(listener.userId)) {
        users.add(listener);
        endSubscription ??= bus.subscribe("conversations", { onMessage, onGap: startAgain });
        pending.reconsider(performance.now());
        resync.start([listener.userId]);
      } else users.add(listener);
      try {
        const unread = await countUnread(database, listener.userId);
        users.start(listener, () => welcome(unread));
      } catch (error) {
        if (!isSubscribed) unsubscribe(listener);
        throw error;
      }
    },

    unsubscribe,

    has: (listener) => users.hasListener(listener),
  };
}
