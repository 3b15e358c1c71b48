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
  /** Live feeds that are open, of each user. */
  feeds: Slots;
  openStreams: Pick<OpenStreams, "add">;
};

const DRAINING_RETRY_AFTER_MS = 1_000;

/** Server-sent events over the same pushes that sockets get. */
export function createStreams({ hub, events, recovery, feeds, openStreams }: StreamDependencies) {
  const open = new Set<EventStream>();
  let isDraining = false;

  /** @param endsWithToken whether it has no end of its own. */
  function openStream(
    { caller, endsWithToken }: { caller: Caller; endsWithToken: boolean },
    request: Request,
    server: Server<unknown> | null,
    onEnd: () => void,
  ): EventStream {
    if (isDraining)
      throw new Problem("draining", "This instance is shutting down; ask again.", {
        retryAfterMs: DRAINING_RETRY_AFTER_MS,
      });
    const stream = createEventStream(request, server, () => {
      open.delete(stream);
      remove();
      onEnd();
    });
    open.add(stream);
    // The membership is the hub's matter.
    const remove = openStreams.add({ caller, endsWithToken, end: ({ problem }) => stream.fail(problem) });
    return stream;
  }

  return {
    /**
     * A conversation's live feed: what was missed since `afterSeq`, then pushes as they come. It ends with the
     * access token or API key that it was opened with, with the session, and with the membership. Its last event says so: `error`, `member.removed` or `conversation.deleted`.
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
        // Its last event has said so.
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
            // Gone while the position was read: it must not stay in the room.
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
     * Sends, and streams the message, the answer as it is written, and its end.
     * @param send stores the message; what it throws is thrown here, before any byte of the stream.
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
        send: reply.hear,
        onExpelled: (_id, why) => stream.fail(createExpulsion(why)),
      };
      const stream = openStream({ caller, endsWithToken: false }, request, server, () =>
        hub.leave(conversationId, listener),
      );
      let sent: RepliedMessage | undefined;
      let isLate = false;
      try {
        await hub.join(
          conversationId,
          listener,
          async () => {
            // A new message says itself where the pushes go on, and that its author may be here; it is sent once, also
            // when the join has to look again.
            const isFirst = sent === undefined;
            sent ??= await send();
            if (isFirst && !sent.duplicate) {
              // At least a member: a viewer could not have sent it.
              const role = hub.findRole(conversationId, caller.user.id) === "owner" ? "owner" : "member";
              return { role, lastSeq: (sent.reply ?? sent.message).seq };
            }
            isLate = true;
            return recovery.start(caller, conversationId, undefined);
          },
          (_position, { missed }) => {
            for (const event of missed) reply.hear(JSON.stringify(event), event);
            // The message is sent all the same; only nobody listens to its answer.
            if (stream.hasEnded()) hub.leave(conversationId, listener);
          },
          () => {
            // The first pieces may be older than the join; who comes late begins with a snapshot anyway.
            if (isLate) return;
            for (const { messageId, frame, text, reasoning } of hub.listSnapshots(conversationId))
              if (messageId === sent?.reply?.id && (text !== "" || reasoning !== "")) reply.hear(frame);
          },
        );
        // It may have been answered before the position that was read: what is stored now counts.
        if (sent && isLate) await reply.begin(await recovery.reread(sent), true);
        else if (sent) await reply.begin(sent, false);
      } catch (error) {
        stream.end();
        // Access was taken away after the message was stored: it is sent, but its author hears no more.
        if (!sent || sent.duplicate) throw error;
      }
      return stream.response;
    },

    /** Ends all of them: an open stream would hold up the end of the server. Readers come back with Last-Event-ID. */
    async drain(): Promise<void> {
      isDraining = true;
      for (const stream of [...open]) stream.end();
    },
  };
}

/** Why a listener is told nothing more, in words for a reader who was a member until now. */
const createExpulsion = (why: "removed" | "deleted"): Problem =>
  why === "deleted"
    ? new Problem("not_found", "The conversation was deleted.")
    : new Problem("forbidden", "You are no longer a member of this conversation. Ask an owner to add you.");

export type Streams = ReturnType<typeof createStreams>;
