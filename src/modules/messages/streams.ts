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
  /** Open live feeds per user. */
  feeds: Slots;
  openStreams: Pick<OpenStreams, "add">;
};

const DRAINING_RETRY_AFTER_MS = 1_000;

/** Server-sent events with the same pushes that sockets receive. */
export function createStreams({ hub, events, recovery, feeds, openStreams }: StreamDependencies) {
  const open = new Set<EventStream>();
  let isDraining = false;

  /** @param endsWithToken whether it is open-ended, so that it must end with the access token. */
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
      open.delete(stream);
      remove();
      onEnd();
    });
    open.add(stream);
    // The hub handles the membership.
    const remove = openStreams.add({ caller, endsWithToken, end: ({ problem }) => stream.fail(problem) });
    return stream;
  }

  return {
    /**
     * A conversation's live feed: events missed since `afterSeq`, then pushes as they arrive. It ends with its access token
     * or API key, the session, or the membership; its last event says so: `error`, `member.removed` or
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
        // Its last event has reported it.
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
            // The client disconnected while the position was read, so it must not stay in the room.
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
     * Sends a message and streams it, its answer and the end.
     * @param send stores the message; its errors are thrown here, before any byte of the stream.
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
        findEnd: events.findCompletion,
        findSnapshot: (messageId) =>
          hub.listSnapshots(conversationId).find((snapshot) => snapshot.messageId === messageId)?.frame,
      });
      const listener: Listener = {
        userId: caller.user.id,
        isHidden: true,
        send: reply.onPush,
        onExpelled: (_id, why) => stream.fail(createExpulsion(why)),
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
            // A new message determines where pushes continue, and that its author is a member. It is sent once, even if the
            // join has to be retried.
            const isFirst = sent === undefined;
            sent ??= await send();
            if (isFirst && !sent.duplicate) {
              // At least a member: a viewer could not have sent it.
              const role = hub.findRole(conversationId, caller.user.id) === "owner" ? "owner" : "member";
              return { role, lastSeq: (sent.reply ?? sent.message).seq };
            }
            isResumed = true;
            return recovery.start(caller, conversationId, undefined);
          },
          (_position, { missed }) => {
            for (const event of missed) reply.onPush(JSON.stringify(event), event);
            // The message is sent anyway, but nobody listens to its answer.
            if (stream.hasEnded()) hub.leave(conversationId, listener);
          },
          () => {
            // The first pieces may be older than the join; a late listener starts with a snapshot anyway.
            if (isResumed) return;
            for (const { messageId, frame, text, reasoning } of hub.listSnapshots(conversationId))
              if (messageId === sent?.reply?.id && (text !== "" || reasoning !== "")) reply.onPush(frame);
          },
        );
        // The answer may have ended before the position was read, so the stored state decides.
        if (sent && isResumed) await reply.begin(await recovery.reread(sent), true);
        else if (sent) await reply.begin(sent, false);
      } catch (error) {
        stream.end();
        // Access was revoked after the message was stored: it is sent, but its author receives no more pushes.
        if (!sent || sent.duplicate) throw error;
      }
      return stream.response;
    },

    /** Ends all streams, which would otherwise delay the shutdown. Readers reconnect with Last-Event-ID. */
    async drain(): Promise<void> {
      isDraining = true;
      for (const stream of [...open]) stream.end();
    },
  };
}

/** Why a listener receives no more pushes, for a reader who was a member until now. */
const createExpulsion = (why: "removed" | "deleted"): Problem =>
  why === "deleted"
    ? new Problem("not_found", "The conversation was deleted.")
    : new Problem("forbidden", "You are no longer a member of this conversation. Ask an owner to add you.");

export type Streams = ReturnType<typeof createStreams>;
