import { type Caller, type Identify, showExpiry } from "../../access/caller.ts";
import { type NeededScope, requireScope } from "../../access/scopes.ts";
import { Problem } from "../../lib/problem.ts";
import type { Limits } from "../../limits/limits.ts";
import type { DurableEvent } from "../../protocol/events.ts";
import type { ClientFrame, ClientFrameType } from "../../protocol/frames.ts";
import type { Message } from "../../protocol/message.ts";
import type { Ack, AckBody, AckedFrameType } from "../../protocol/pushes.ts";
import type { Hub } from "../../realtime/hub.ts";
import type { Typing } from "../../realtime/typing.ts";
import type { ConversationService } from "../conversations/service.ts";
import type { GenerationService } from "../generations/service.ts";
import type { Inbox } from "../inbox/service.ts";
import { collectEvents, type MessageService, type Recovery, type StartPosition } from "../messages/service.ts";
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
  typing: Typing;
  limits: Pick<Limits, "reads">;
};

/** The body of the ack; undefined for frames without an ack, or already acknowledged. */
type Answer<T extends ClientFrameType> = (T extends AckedFrameType ? AckBody<T> : never) | undefined;
export type FrameHandler<T extends ClientFrameType> = (
  connection: Connection,
  caller: Caller,
  frame: ClientFrame<T>,
) => Promise<Answer<T>> | Answer<T>;

const SENDING_RETRY_AFTER_MS = 500;

/** The API key scope that each frame requires. */
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

/** A response as sent so far. Its end may be stored already: then the remaining chunks and the end are still to be sent. */
const showInProgress = (message: Message, content: string): Message =>
  message.status === "streaming"
    ? { ...message, content }
    : { ...message, content, status: "streaming", finish_reason: null, usage: null, error: null };

/** The handlers of authenticated frames. Thrown problems become error frames. */
export function createCommands(deps: CommandDependencies): { [T in ClientFrameType]: FrameHandler<T> } {
  const { conversations, messages, generations, recovery, hub, inbox, typing, limits } = deps;

  /** Typing requires permission to write; the subscription was checked before. */
  async function requireWriter(caller: Caller, conversationId: string): Promise<void> {
    const role =
      hub.findRole(conversationId, caller.user.id) ?? (await conversations.getPosition(caller, conversationId)).role;
    if (role === "viewer") throw new Problem("forbidden", "Viewers can't write in a conversation.");
  }

  return {
    async auth(connection, caller, { token, on_behalf_of: onBehalfOf = null }) {
      const renewed = await deps.identify(token, { ipAddress: connection.ipAddress, onBehalfOf });
      if (renewed.user.id !== caller.user.id)
        throw new Problem("forbidden", "A connection belongs to one user. Open another connection for another user.");
      // Existing subscriptions continue, so the new credential must be allowed to subscribe.
      if (connection.subscriptions.size > 0) requireScope(renewed.scopes, frameScopes.subscribe);
      if (inbox.has(connection)) requireScope(renewed.scopes, frameScopes["inbox.subscribe"]);
      connection.caller = { ...renewed, requestId: connection.requestId };
      return { expires_at: showExpiry(renewed) };
    },

    async subscribe(connection, caller, { id, conversation_id, after_seq }) {
      const conversationId = conversation_id.toLowerCase();
      if (connection.subscriptions.size >= SUBSCRIPTIONS_MAX && !connection.subscriptions.has(conversationId))
        throw new Problem("rate_limited", `A connection can subscribe to at most ${SUBSCRIPTIONS_MAX} conversations.`);
      let recovered: DurableEvent[] = [];
      const join = () =>
        hub.join(
          conversationId,
          connection,
          () => recovery.start(caller, conversationId, after_seq ?? undefined),
          (position: StartPosition, { lastSeq, missed, usersOnline }) => {
            // The connection closed while the position was read: don't leave it in the room.
            if (connection.isClosing) {
              hub.leave(conversationId, connection);
              return;
            }
            connection.subscriptions.add(conversationId);
            const snapshots = hub.listSnapshots(conversationId);
            recovered = position.recovered ? collectEvents(position, lastSeq, missed) : [];
            const shown = recovered.map((event) => {
              if (event.type !== "message.created") return event;
              const snapshot = snapshots.find(({ seq }) => seq === event.seq);
              return snapshot ? { ...event, data: showInProgress(event.data, snapshot.text) } : event;
            });
            // Send it before the first push.
            const ack: Ack<"subscribe"> = {
              type: "ack",
              id,
              last_seq: lastSeq,
              recovered: position.recovered,
              events: shown,
              members_online: usersOnline,
            };
            connection.answer(ack);
          },
          () => {
            // Responses in progress whose text so far is not part of the events.
            for (const { seq, frame } of hub.listSnapshots(conversationId))
              if (!recovered.some((event) => event.seq === seq)) connection.send(frame);
          },
        );
      // Up to 500 events: counts as a read.
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
      if (connection.sending >= SENDING_MAX)
        throw new Problem("rate_limited", `A connection can have at most ${SENDING_MAX} unacknowledged messages.`, {
          retryAfterMs: SENDING_RETRY_AFTER_MS,
        });
      const conversationId = conversation_id.toLowerCase();
      connection.sending += 1;
      try {
        const { message, duplicate } = await connection.sendOrder.run(conversationId, (slot) =>
          messages.send(caller, conversationId, input, slot),
        );
        typing.stop(conversationId, caller.user.id, connection);
        return { message, duplicate };
      } finally {
        connection.sending -= 1;
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
      await requireWriter(caller, conversation_id.toLowerCase());
      // The connection closed during the check, so nothing would end its typing indicator.
      if (connection.isClosing) return undefined;
      typing.start(conversation_id.toLowerCase(), caller.user.id, connection);
      return undefined;
    },

    async "typing.stop"(connection, caller, { conversation_id }) {
      await requireWriter(caller, conversation_id.toLowerCase());
      typing.stop(conversation_id.toLowerCase(), caller.user.id, connection);
      return undefined;
    },

    async read(_connection, caller, { conversation_id, seq }) {
      return { last_read_seq: await conversations.read(caller, conversation_id.toLowerCase(), seq) };
    },

    async "inbox.subscribe"(connection, caller, { id }) {
      // Reads every conversation of the user: counts as a read.
      await limits.reads.run(caller.user.id, async () => {
        // The connection closed while waiting: nothing would unsubscribe it.
        if (connection.isClosing) return;
        // Send it before the first push.
        await inbox.subscribe(connection, (unread) => connection.answer({ type: "ack", id, unread }));
      });
      return undefined;
    },

    "inbox.unsubscribe"(connection) {
      inbox.unsubscribe(connection);
      return {};
    },

    ping(connection, _caller, { id }) {
      connection.answer({ type: "pong", ...(id !== undefined && { id }) });
      return undefined;
    },
  };
}
