import type { Database } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Bus, ConversationsMessage } from "../../realtime/bus.ts";
import { type InboxListener, InboxUsers } from "./inbox-users.ts";
import { MemberCache } from "./members.ts";
import { type ChangeDetails, PendingFrames } from "./pending.ts";
import { countUnread } from "./queries.ts";
import { createResync } from "./resync.ts";
import { createStateReader } from "./state-reader.ts";

/** Maximum number of conversations with pending frames. If there are more, the frames are discarded, and all inboxes are compared with the database. */
const PENDING_MAX = 100_000;

/**
 * Notifies sockets of changes in all conversations of their user (docs/decisions/0078). The bus announces changes. When frames
 * are due, one query reads the current states for all of them.
 */
export interface Inbox {
  /**
   * Subscribes a listener to its user's frames. The user must be authenticated.
   * @param sendWelcome called before the first frame, with the number of unread messages in all conversations, up to 1,000. It is
   * not called if the listener has already been unsubscribed.
   * @throws database errors. The listener is then not subscribed.
   */
  subscribe(listener: InboxListener, sendWelcome: (unreadCount: number) => void): Promise<void>;

  /** Unsubscribes a listener. Has no effect if it isn't subscribed. */
  unsubscribe(listener: InboxListener): void;

  isSubscribed(listener: InboxListener): boolean;
}

type Dependencies = {
  database: Database;
  bus: Pick<Bus, "subscribe">;
  log: Log;
  /** Called after a frame was sent. */
  onPushed(type: string, recipientCount: number): void;
};

export function createInbox({ database, bus, log, onPushed }: Dependencies): Inbox {
  const users = new InboxUsers({ log, onPushed });
  const pendingFrames = new PendingFrames();
  const memberCache = new MemberCache();
  const stateReader = createStateReader({ database, log, users, memberCache, pendingFrames });
  const resync = createResync({ database, log, findSentStates: (userId) => users.findSentStates(userId), queueFrame });
  let unsubscribeBus: (() => void) | undefined;

  function queueFrame(conversationId: string, userId: string, details: ChangeDetails = {}): void {
    if (!users.has(userId)) return;
    pendingFrames.queueFrame(conversationId, userId, details, performance.now());
    stateReader.scheduleRead();
  }

  function queueFramesForAll(conversationId: string): void {
    if (pendingFrames.size >= PENDING_MAX) {
      pendingFrames.clear();
      resyncAll();
      return;
    }
    pendingFrames.queueFramesForAll(conversationId, performance.now());
    stateReader.scheduleRead();
  }

  function onMessage(message: ConversationsMessage): void {
    const { conversation_id } = message;
    switch (message.type) {
      case "conversation.read":
        queueFrame(conversation_id, message.user_id);
        return;
      case "conversation.listed":
        for (const userId of message.user_ids) startMembership(conversation_id, userId, true);
        return;
      case "conversation.unlisted":
        for (const userId of message.user_ids) endMembership(userId, message);
        return;
      case "conversation.changed":
        onConversationChanged(message);
    }
  }

  function onConversationChanged(message: ConversationsMessage & { type: "conversation.changed" }): void {
    const { conversation_id, event, user_id, joined } = message;
    // Each member receives `conversation.unlisted` instead.
    if (event === "conversation.deleted") return;
    if (event === "member.added" && user_id !== undefined) startMembership(conversation_id, user_id, joined === true);
    else if (event === "member.removed" && user_id !== undefined) endMembership(user_id, message);
    queueFramesForAll(conversation_id);
  }

  function startMembership(conversationId: string, userId: string, isAdded: boolean): void {
    memberCache.setMember(conversationId, userId, true);
    if (isAdded) queueFrame(conversationId, userId, { isAdded });
  }

  type MembershipEnd = { conversation_id: string; seq: number; at: string };
  function endMembership(userId: string, { conversation_id, seq, at }: MembershipEnd): void {
    memberCache.setMember(conversation_id, userId, false);
    queueFrame(conversation_id, userId, { removed: { seq, at } });
  }

  /** Clears the cached members and compares every inbox with the database, because messages may have been lost. */
  function resyncAll(): void {
    memberCache.clear();
    resync.queueUsers(users.listIds());
  }

  function unsubscribe(listener: InboxListener): void {
    users.remove(listener);
    if (users.size > 0) return;
    // The cache is also cleared, because it becomes stale without messages from the bus.
    unsubscribeBus?.();
    unsubscribeBus = undefined;
    stateReader.stop();
    memberCache.clear();
    pendingFrames.clear();
  }

  return {
    async subscribe(listener, sendWelcome) {
      const wasSubscribed = users.hasListener(listener);
      if (!users.has(listener.userId)) {
        users.add(listener);
        unsubscribeBus ??= bus.subscribe("conversations", { onMessage, onGap: resyncAll });
        pendingFrames.recomputeDueTimes(performance.now());
        resync.queueUsers([listener.userId]);
      } else users.add(listener);
      try {
        const unreadCount = await countUnread(database, listener.userId);
        users.startSending(listener, () => sendWelcome(unreadCount));
      } catch (error) {
        if (!wasSubscribed) unsubscribe(listener);
        throw error;
      }
    },

    unsubscribe,

    isSubscribed: (listener) => users.hasListener(listener),
  };
}
