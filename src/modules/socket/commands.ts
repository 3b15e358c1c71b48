import { type Caller, formatExpiry, type Identify } from "../../access/caller.ts";
import { type NeededScope, requireScope } from "../../access/scopes.ts";
import { Problem } from "../../lib/problem.ts";
import type { Limits } from "../../limits/limits.ts";
import type { DurableEvent } from "../../protocol/events.ts";
import type { ClientFrame, ClientFrameType } from "../../protocol/frames.ts";
import type { Message } from "../../protocol/message.ts";
import type { Ack, AckBody, AckedFrameType } from "../../protocol/pushes.ts";
import type { Hub } from "../../realtime/hub.ts";
import type { TypingTracker } from "../../realtime/typing.ts";
import type { ConversationService } from "../conversations/service.ts";
import type { GenerationService } from "../generations/service.ts";
import type { Inbox } from "../inbox/service.ts";
import { type MessageService, mergeEvents, type Recovery, type StartPosition } from "../messages/service.ts";
import type { Connection } from "./connection.ts";
import { SENDING_MAX, SUBSCRIPTIONS_MAX } from "./limits.ts";

export type CommandDependencies = {
  identify: Identify;
  conversations: ConversationService;
  messages: MessageService;
  generations: GenerationService;
  recovery: Recovery;
  hub: Hub;
  inbox: Inbox;
  typing: TypingTracker;
  limits: Pick<Limits, "reads">;
};

/** The body of the ack. Undefined if the frame isn't acknowledged, or the handler has already sent the ack. */
type FrameAckBody<T extends ClientFrameType> = (T extends AckedFrameType ? AckBody<T> : never) | undefined;
export type FrameHandler<T extends ClientFrameType> = (
  connection: Connection,
  caller: Caller,
  frame: ClientFrame<T>,
) => Promise<FrameAckBody<T>> | FrameAckBody<T>;

const SENDING_RETRY_AFTER_MS = 500;

/** The API key scope that each type of frame requires. */
export const frameScopes: Record<ClientFrameType, NeededScope> = {
  auth: "any",
  ping: "any",
  subscribe: "messages:read",
  unsubscribe: "any",
  "message.send": "messages:write",
  "message.edit": "messages:write",
  "message.delete": "messages:write",
  "generation.cancel": "messages:write",
  "generation.regenerate": "messages:write",
  "typing.start": "messages:write",
  "typing.stop": "messages:write",
  read: "messages:write",
  "inbox.subscribe": "conversations:read",
  "inbox.unsubscribe": "any",
};

/**
 * Returns an answer as a subscriber should see it: unfinished, and with only the text that has been pushed. If the answer is already
 * stored as complete, its remaining deltas and its completion are still to be pushed.
 */
const createStreamingView = (message: Message, content: string): Message =>
  message.status === "streaming"
    ? { ...message, content }
    : { ...message, content, status: "streaming", finish_reason: null, usage: null, error: null };

/** Creates the handlers of authenticated frames. The problems that they throw are sent as error frames. */
export function createFrameHandlers(deps: CommandDependencies): { [T in ClientFrameType]: FrameHandler<T> } {
  const { conversations, messages, generations, recovery, hub, inbox, typing, limits } = deps;

  /** Checks that the caller may write in the conversation, which typing indicators require. */
  async function requireWriteAccess(caller: Caller, conversationId: string): Promise<void> {
    const role =
      hub.findRole(conversationId, caller.user.id) ?? (await conversations.getPosition(caller, conversationId)).role;
    if (role === "viewer") throw new Problem("forbidden", "Viewers can't send typing indicators.");
  }

  return {
    async auth(connection, caller, { token, on_behalf_of: onBehalfOf = null }) {
      const newCaller = await deps.identify(token, { ipAddress: connection.ipAddress, onBehalfOf });
      if (newCaller.user.id !== caller.user.id)
        throw new Problem("forbidden", "A connection belongs to one user. Open another connection for another user.");
      // Existing subscriptions continue, so the new credential must permit them.
      if (connection.subscriptions.size > 0) requireScope(newCaller.scopes, frameScopes.subscribe);
      if (inbox.isSubscribed(connection)) requireScope(newCaller.scopes, frameScopes["inbox.subscribe"]);
      connection.caller = { ...newCaller, requestId: connection.requestId };
      return { expires_at: formatExpiry(newCaller) };
    },

    async subscribe(connection, caller, { id, conversation_id, after_seq }) {
      const conversationId = conversation_id.toLowerCase();
      if (connection.subscriptions.size >= SUBSCRIPTIONS_MAX && !connection.subscriptions.has(conversationId))
        throw new Problem("rate_limited", `A connection can subscribe to at most ${SUBSCRIPTIONS_MAX} conversations.`);
      let recoveredEvents: DurableEvent[] = [];
      const join = () =>
        hub.join(
          conversationId,
          connection,
          () => recovery.getStartPosition(caller, conversationId, after_seq ?? undefined),
          (position: StartPosition, { lastSeq, missedEvents, usersOnline }) => {
            // If the connection was closed while the position was being read, it must leave the conversation.
            if (connection.isClosing) {
              hub.leave(conversationId, connection);
              return;
            }
            connection.subscriptions.add(conversationId);
            const snapshots = hub.listSnapshots(conversationId);
            recoveredEvents = position.recovered ? mergeEvents(position, lastSeq, missedEvents) : [];
            const visibleEvents = recoveredEvents.map((event) => {
              if (event.type !== "message.created") return event;
              const snapshot = snapshots.find(({ seq }) => seq === event.seq);
              return snapshot ? { ...event, data: createStreamingView(event.data, snapshot.text) } : event;
            });
            // The ack is sent here, because it must precede the first push.
            const ack: Ack<"subscribe"> = {
              type: "ack",
              id,
              last_seq: lastSeq,
              recovered: position.recovered,
              events: visibleEvents,
              members_online: usersOnline,
            };
            connection.sendFrame(ack);
          },
          () => {
            // Sends the current text of answers in progress, unless the recovered events contain it.
            for (const { seq, frame } of hub.listSnapshots(conversationId))
              if (!recoveredEvents.some((event) => event.seq === seq)) connection.send(frame);
          },
        );
      // A subscription counts as a read, because it loads up to 500 events.
      await limits.reads.run(caller.user.id, join);
      return undefined;
    },

    unsubscribe(connection, caller, { conversation_id }) {
      const conversationId = conversation_id.toLowerCase();
      typing.stop(conversationId, caller.user.id, connection);
      if (connection.subscriptions.delete(conversationId)) hub.leave(conversationId, connection);
      return {};
    },

    async "message.send"(connection, caller, { conversation_id, type: _type, id: _id, ...input }) {
      if (connection.pendingSends >= SENDING_MAX)
        throw new Problem("rate_limited", `A connection can have at most ${SENDING_MAX} unacknowledged messages.`, {
          retryAfterMs: SENDING_RETRY_AFTER_MS,
        });
      const conversationId = conversation_id.toLowerCase();
      connection.pendingSends += 1;
      try {
        const { message, duplicate } = await connection.sendOrder.run(conversationId, (slot) =>
          messages.send(caller, conversationId, input, slot),
        );
        typing.stop(conversationId, caller.user.id, connection);
        return { message, duplicate };
      } finally {
        connection.pendingSends -= 1;
      }
    },

    async "message.edit"(_connection, caller, { conversation_id = null, message_id, content }) {
      return { message: await messages.edit(caller, conversation_id, message_id, content) };
    },

    async "message.delete"(_connection, caller, { conversation_id = null, message_id }) {
      await messages.remove(caller, conversation_id, message_id);
      return {};
    },

    async "generation.cancel"(_connection, caller, { conversation_id = null, message_id }) {
      return { message: await generations.cancel(caller, conversation_id, message_id) };
    },

    async "generation.regenerate"(_connection, caller, { conversation_id = null, message_id, model }) {
      const { reply } = await generations.regenerate(caller, conversation_id, message_id, model ?? undefined);
      return { message: reply };
    },

    async "typing.start"(connection, caller, { conversation_id }) {
      await requireWriteAccess(caller, conversation_id.toLowerCase());
      // If the connection closed during the check, nothing would clear its typing indicator.
      if (connection.isClosing) return undefined;
      typing.start(conversation_id.toLowerCase(), caller.user.id, connection);
      return undefined;
    },

    async "typing.stop"(connection, caller, { conversation_id }) {
      await requireWriteAccess(caller, conversation_id.toLowerCase());
      typing.stop(conversation_id.toLowerCase(), caller.user.id, connection);
      return undefined;
    },

    async read(_connection, caller, { conversation_id, seq }) {
      return { last_read_seq: await conversations.markRead(caller, conversation_id.toLowerCase(), seq) };
    },

    async "inbox.subscribe"(connection, caller, { id }) {
      // An inbox subscription counts as a read, because it reads all of the user's conversations.
      await limits.reads.run(caller.user.id, async () => {
        // If the connection was closed while this request waited for a slot, nothing would unsubscribe it later.
        if (connection.isClosing) return;
        // The ack is sent here, because it must precede the first push.
        await inbox.subscribe(connection, (unreadCount) =>
          connection.sendFrame({ type: "ack", id, unread: unreadCount }),
        );
      });
      return undefined;
    },

    "inbox.unsubscribe"(connection) {
      inbox.unsubscribe(connection);
      return {};
    },

    ping(connection, _caller, { id }) {
      connection.sendFrame({ type: "pong", ...(id !== undefined && { id }) });
      return undefined;
    },
  };
}
