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
import { mergeEvents, type Recovery, type StartPosition } from "./recovery.ts";
import { createReplyStream, type RepliedMessage } from "./reply-stream.ts";

export type StreamDependencies = {
  hub: Hub;
  events: Pick<EventLog, "findCompletion">;
  recovery: Recovery;
  /** The slots for open live feeds, per user. */
  feedSlots: Slots;
  openStreams: Pick<OpenStreams, "add">;
};

const DRAINING_RETRY_AFTER_MS = 1_000;

/** Creates streams of server-sent events, which contain the same pushes that sockets receive. */
export function createStreams({ hub, events, recovery, feedSlots, openStreams }: StreamDependencies) {
  const activeStreams = new Set<EventStream>();
  let isDraining = false;

  /**
   * Opens a stream. It ends when the credential is revoked or the instance shuts down.
   * @param shouldEndWithToken whether the stream also ends when the access token expires.
   */
  function openStream(
    { caller, shouldEndWithToken }: { caller: Caller; shouldEndWithToken: boolean },
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
      unregister();
      onEnd();
    });
    activeStreams.add(stream);
    // When the caller loses their membership, the hub removes the listener.
    const unregister = openStreams.add({ caller, shouldEndWithToken, end: ({ problem }) => stream.fail(problem) });
    return stream;
  }

  return {
    /**
     * Opens a conversation's live feed: first the events missed since `afterSeq`, then pushes as they arrive. The feed ends when
     * the access token or API key expires or is revoked, or when the membership ends. Its last event is then `error`,
     * `member.removed` or `conversation.deleted`.
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
        send: (frame, event) =>
          stream.write(formatServerSentEvent(event ?? (JSON.parse(frame) as ConversationEvent), frame)),
        // The feed's last event has already reported the reason.
        onExpelled: () => stream.end(),
      };
      feedSlots.requireFreeSlot(caller.user.id);
      const stream = openStream({ caller, shouldEndWithToken: true }, request, server, () => {
        releaseSlot();
        hub.leave(conversationId, listener);
      });
      const releaseSlot = feedSlots.acquire(caller.user.id);
      try {
        await hub.join(
          conversationId,
          listener,
          () => recovery.getStartPosition(caller, conversationId, afterSeq),
          (position: StartPosition, { lastSeq, missedEvents }) => {
            // If the client disconnected while the position was being read, its listener must be removed.
            if (stream.hasEnded()) {
              hub.leave(conversationId, listener);
              return;
            }
            const recoveredEvents = position.recovered ? mergeEvents(position, lastSeq, missedEvents) : [];
            for (const event of recoveredEvents) stream.write(formatServerSentEvent(event));
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
     * Sends a message, and streams it and its answer until the answer is complete.
     * @param send stores the message. Its errors are thrown before the stream starts.
     */
    async openReply(
      caller: Caller,
      conversationId: string,
      send: () => Promise<RepliedMessage>,
      request: Request,
      server: Server<unknown> | null,
    ): Promise<Response> {
      const replyStream = createReplyStream({
        write: (text) => stream.write(text),
        end: () => stream.end(),
        findCompletion: events.findCompletion,
        findSnapshot: (messageId) =>
          hub.listSnapshots(conversationId).find((snapshot) => snapshot.messageId === messageId)?.frame,
      });
      const listener: Listener = {
        userId: caller.user.id,
        isHidden: true,
        send: replyStream.onPush,
        onExpelled: (_id, reason) => stream.fail(createAccessLostProblem(reason)),
      };
      const stream = openStream({ caller, shouldEndWithToken: false }, request, server, () =>
        hub.leave(conversationId, listener),
      );
      let sent: RepliedMessage | undefined;
      let isResumed = false;
      try {
        await hub.join(
          conversationId,
          listener,
          async () => {
            // The new message determines where pushes start, and proves that its author is a member. It is sent only once, even if
            // joining is retried.
            const isFirstAttempt = sent === undefined;
            sent ??= await send();
            if (isFirstAttempt && !sent.duplicate) {
              // Viewers can't send messages.
              const role = hub.findRole(conversationId, caller.user.id) === "owner" ? "owner" : "member";
              return { role, lastSeq: (sent.reply ?? sent.message).seq };
            }
            isResumed = true;
            return recovery.getStartPosition(caller, conversationId, undefined);
          },
          (_position, { missedEvents }) => {
            for (const event of missedEvents) replyStream.onPush(JSON.stringify(event), event);
            // The client may have disconnected after the message was sent.
            if (stream.hasEnded()) hub.leave(conversationId, listener);
          },
          () => {
            // Deltas may have been pushed before the listener joined, so a new stream needs snapshots. A resumed stream always
            // starts with one.
            if (isResumed) return;
            for (const { messageId, frame, text, reasoning } of hub.listSnapshots(conversationId))
              if (messageId === sent?.reply?.id && (text !== "" || reasoning !== "")) replyStream.onPush(frame);
          },
        );
        // The answer may have completed before the position was read, so start from the stored state.
        if (sent && isResumed) await replyStream.start(await recovery.reload(sent), true);
        else if (sent) await replyStream.start(sent, false);
      } catch (error) {
        stream.end();
        // If the message was stored and the caller then lost access, the request succeeds, but the stream has no further pushes.
        if (!sent || sent.duplicate) throw error;
      }
      return stream.response;
    },

    /** Ends all streams during shutdown. Clients reconnect with Last-Event-ID. */
    async drain(): Promise<void> {
      isDraining = true;
      for (const stream of [...activeStreams]) stream.end();
    },
  };
}

/** Creates the error for a caller who has lost access to the conversation. */
const createAccessLostProblem = (reason: "removed" | "deleted"): Problem =>
  reason === "deleted"
    ? new Problem("not_found", "The conversation was deleted.")
    : new Problem("forbidden", "You are no longer a member of this conversation. Ask an owner to add you.");

export type Streams = ReturnType<typeof createStreams>;
