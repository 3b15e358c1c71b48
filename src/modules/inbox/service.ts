import type { Database } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Bus, ConversationsMessage } from "../../realtime/bus.ts";
import { type InboxListener, InboxUsers } from "./inbox-users.ts";
import { Members } from "./members.ts";
import { type ChangeNote, Pending } from "./pending.ts";
import { countUnread } from "./queries.ts";
import { createResync } from "./resync.ts";
import { createStateReader } from "./state-reader.ts";

/** Maximum pending conversations. Beyond this they are dropped, and the inboxes are compared with the lists. */
const PENDING_MAX = 100_000;

/**
 * Notifies sockets of changes in all conversations of their user (docs/decisions/0078). The bus announces changes; the
 * current states are read from the database when frames are due, for all frames in one query.
 */
export interface Inbox {
  /**
   * Subscribes a listener to its user's frames; the user is already authenticated.
   * @param welcome is called before the first frame, with the unread count over all conversations, up to 1,000. Not called
   * if the listener has left.
   * @throws database errors; then nothing is subscribed.
   */
  subscribe(listener: InboxListener, welcome: (unread: number) => void): Promise<void>;

  /** Unsubscribes: no frames follow. Safe for listeners that never subscribed. */
  unsubscribe(listener: InboxListener): void;

  has(listener: InboxListener): boolean;
}

type Dependencies = {
  database: Database;
  bus: Pick<Bus, "subscribe">;
  log: Log;
  /** Counts sent frames by number of listeners. */
  onPushed(type: string, listeners: number): void;
};

export function createInbox({ database, bus, log, onPushed }: Dependencies): Inbox {
  const users = new InboxUsers({ log, onPushed });
  const pending = new Pending();
  const members = new Members();
  const stateReader = createStateReader({ database, log, users, members, pending });
  const resync = createResync({ database, log, findSentStates: (userId) => users.findSentStates(userId), markUser });
  let endSubscription: (() => void) | undefined;

  function markUser(conversationId: string, userId: string, note: ChangeNote = {}): void {
    if (!users.has(userId)) return;
    pending.markUser(conversationId, userId, note, performance.now());
    stateReader.schedule();
  }

  function markAll(conversationId: string): void {
    if (pending.size >= PENDING_MAX) {
      pending.clear();
      resyncAll();
      return;
    }
    pending.markAll(conversationId, performance.now());
    stateReader.schedule();
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

  /** Messages may have been lost: clear the members and compare every inbox with the list. */
  function resyncAll(): void {
    members.clear();
    resync.start(users.list());
  }

  function unsubscribe(listener: InboxListener): void {
    users.remove(listener);
    if (users.size > 0) return;
    // No messages arrive from here on, so the members would become stale.
    endSubscription?.();
    endSubscription = undefined;
    stateReader.stop();
    members.clear();
    pending.clear();
  }

  return {
    async subscribe(listener, welcome) {
      const isSubscribed = users.hasListener(listener);
      if (!users.has(listener.userId)) {
        users.add(listener);
        endSubscription ??= bus.subscribe("conversations", { onMessage, onGap: resyncAll });
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
