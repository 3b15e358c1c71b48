import type { Server } from "bun";
import type { Caller } from "../../access/caller.ts";
import type { OpenStreams } from "../../access/open-streams.ts";
import type { EventLog } from "../../events/log.ts";
import { createEventStream, type EventStream, formatServerSentEvent } from "../../http/event-stream.ts";
import { Problem } from "../../lib/problem.ts";
import type { Slots } from "../../limits/slots.ts";
import type { ConversationEvent } from "../../protocol/events.ts";
import type { Hub } from "../../realtime/hub.ts";
import type { Listener } from "../../realtime/room.ts";
import { collectEvents, type Recovery, type StartPosition } from "./recovery.ts";
import { createReplyStream, type RepliedMessage } from "./reply-stream.ts";

export type StreamDependencies = {
  hub: Hub;
  events: Pick<EventLog, "findCompletion">;
  recovery: Recovery;
  /** The slots for open live feeds, per user. */
  feeds: Slots;
  openStreams: Pick<OpenStreams, "add">;
};

const DRAINING_RETRY_AFTER_MS = 1_000;

/** Streams of server-sent events, with the same pushes that sockets receive. */
export function createStreams({ hub, events, recovery, feeds, openStreams }: StreamDependencies) {
  const activeStreams = new Set<EventStream>();
  let isDraining = false;

  /**
   * @param endsWithToken whether the stream must end when the access token expires, because it would otherwise never
   * end.
   */
  function openStream(
    { caller, endsWithToken }: { caller: Caller; endsWithToken: boolean },
    request: Request,
    server: Server<unknown> | null,
    onEnd: () => void,
  ): EventStream {
    if (isDraining)
      throw new Problem("draining", "This instance is shutting down. Retry the request.", {
        retryAfterMs: DRAINING_RETRY_AFTER_MS,
      });
    const stream = createEventStream(request, server, () => {
      activeStreams.delete(stream);
      remove();
      onEnd();
    });
    activeStreams.add(stream);
    // Lost memberships are handled by the hub.
    const remove = openStreams.add({ caller, endsWithToken, end: ({ problem }) => stream.fail(problem) });
    return stream;
  }

  return {
    /**
     * Opens a conversation's live feed: events missed since `afterSeq`, then pushes as they arrive. The feed ends with
     * the access token or API key, the session, or the membership. Its last event is then `error`, `member.removed` or
     * `conversation.deleted`.
     * @throws Problem `not_found` for an outsider, `rate_limited` (too many), `draining`.
     */
    async openFeed(
      caller: Caller,
      conversationId: string,
      afterSeq: number | undefined,
      request: Request,
      server: Server<unknown> | null,
    ): Promise<Response> {
      const listener: Listener = {
        userId: caller.user.id,
        send: (text, event) =>
          stream.write(formatServerSentEvent(event ?? (JSON.parse(text) as ConversationEvent), text)),
        // The feed's last event has already reported it.
        onExpelled: () => stream.end(),
      };
      feeds.requireRoom(caller.user.id);
      const stream = openStream({ caller, endsWithToken: true }, request, server, () => {
        release();
        hub.leave(conversationId, listener);
      });
      const release = feeds.take(caller.user.id);
      try {
        await hub.join(
          conversationId,
          listener,
          () => recovery.start(caller, conversationId, afterSeq),
          (position: StartPosition, { lastSeq, missed }) => {
            // If the client disconnected while the position was read, it must not stay in the room.
            if (stream.hasEnded()) {
              hub.leave(conversationId, listener);
              return;
            }
            const recovered = position.recovered ? collectEvents(position, lastSeq, missed) : [];
            for (const event of recovered) stream.write(formatServerSentEvent(event));
          },
          () => {
            for (const { frame } of hub.listSnapshots(conversationId)) listener.send(frame);
          },
        );
      } catch (error) {
        stream.end();
        throw error;
      }
      return stream.response;
    },

    /**
     * Sends a message, and streams it and its answer until that is completed.
     * @param send stores the message. Its errors are thrown before the stream starts.
     */
    async openReply(
      caller: Caller,
      conversationId: string,
      send: () => Promise<RepliedMessage>,
      request: Request,
      server: Server<unknown> | null,
    ): Promise<Response> {
      const reply = createReplyStream({
        write: (text) => stream.write(text),
        end: () => stream.end(),
        findCompletion: events.findCompletion,
        findSnapshot: (messageId) =>
          hub.listSnapshots(conversationId).find((snapshot) => snapshot.messageId === messageId)?.frame,
      });
      const listener: Listener = {
        userId: caller.user.id,
        isHidden: true,
        send: reply.onPush,
        onExpelled: (_id, reason) => stream.fail(createAccessLost(reason)),
      };
      const stream = openStream({ caller, endsWithToken: false }, request, server, () =>
        hub.leave(conversationId, listener),
      );
      let sent: RepliedMessage | undefined;
      let isResumed = false;
      try {
        await hub.join(
          conversationId,
          listener,
          async () => {
            // A new message determines where pushes continue, and proves that its author is a member. It is sent only
            // once, even if joining has to be retried.
            const isFirst = sent === undefined;
            sent ??= await send();
            if (isFirst && !sent.duplicate) {
              // The author is at least a member, because a viewer could not have sent it.
              const role = hub.findRole(conversationId, caller.user.id) === "owner" ? "owner" : "member";
              return { role, lastSeq: (sent.reply ?? sent.message).seq };
            }
            isResumed = true;
            return recovery.start(caller, conversationId, undefined);
          },
          (_position, { missed }) => {
            for (const event of missed) reply.onPush(JSON.stringify(event), event);
            // The message has been sent, but nobody reads its answer.
            if (stream.hasEnded()) hub.leave(conversationId, listener);
          },
          () => {
            // The first deltas may have been pushed before the listener joined. A resumed stream starts with a snapshot
            // anyway.
            if (isResumed) return;
            for (const { messageId, frame, text, reasoning } of hub.listSnapshots(conversationId))
              if (messageId === sent?.reply?.id && (text !== "" || reasoning !== "")) reply.onPush(frame);
          },
        );
        // The answer may have completed before the position was read, so start from the stored state.
        if (sent && isResumed) await reply.begin(await recovery.reread(sent), true);
        else if (sent) await reply.begin(sent, false);
      } catch (error) {
        stream.end();
        // If access was revoked after the message was stored, the response is a success, but without further pushes.
        if (!sent || sent.duplicate) throw error;
      }
      return stream.response;
    },

    /** Ends all streams, which would otherwise delay the shutdown. Clients reconnect with Last-Event-ID. */
    async drain(): Promise<void> {
      isDraining = true;
      for (const stream of [...activeStreams]) stream.end();
    },
  };
}

/** Creates the error for a reader who has just lost access to the conversation. */
const createAccessLost = (reason: "removed" | "deleted"): Problem =>
  reason === "deleted"
    ? new Problem("not_found", "The conversation was deleted.")
    : new Problem("forbidden", "You are no longer a member of this conversation. Ask an owner to add you.");

export type Streams = ReturnType<typeof createStreams>;
