import { formatServerSentEvent } from "../../http/event-stream.ts";
import type { DurableEvent } from "../../protocol/events.ts";
import type { Message } from "../../protocol/message.ts";
import type { SentMessage } from "./model.ts";

/** A push, as far as it matters here. */
export type Frame = {
  type: string;
  seq?: number;
  at?: string;
  data?: { id?: string; role?: string; parent_id?: string | null };
  message_id?: string;
  attempt?: number;
  offset?: number;
  text?: string;
};

/** What a send gave; `duplicate` when it repeated one, whose answer was begun long ago. */
export type RepliedMessage = SentMessage & { duplicate?: boolean };

type Outlet = {
  write(text: string): void;
  end(): void;
  /** The stored `message.completed` of an answer. */
  findEnd(answer: Message): Promise<DurableEvent | null>;
  /** The text so far of an answer that is being written here, as a frame. */
  findSnapshot(messageId: string): string | undefined;
};

/**
 * Picks one message and its answer out of a conversation's pushes: both `message.created`, the text, the end. What was
 * pushed before the send was answered is kept until then.
 */
export function createReplyStream({ write, end, findEnd, findSnapshot }: Outlet) {
  let sent: RepliedMessage | undefined;
  const early: { text: string; frame: Frame }[] = [];
  /** The newest durable event that was written. */
  let lastSeq = 0;
  /** Where the text is: deltas below it have been written, as part of a snapshot. */
  let attempt = 0;
  let offset = 0;

  function writeEvent(event: DurableEvent): void {
    lastSeq = event.seq;
    write(formatServerSentEvent(event));
  }

  function isRepeat(frame: Frame): boolean {
    if (frame.seq !== undefined) return frame.seq <= lastSeq;
    if (frame.type !== "message.delta" || frame.attempt === undefined) return false;
    return frame.attempt < attempt || (frame.attempt === attempt && (frame.offset ?? 0) < offset);
  }

  function forward({ message, reply }: RepliedMessage, text: string, frame: Frame): void {
    const about = frame.message_id ?? frame.data?.id;
    // The tools that the answer calls are part of how it comes about.
    const isToolOfReply = frame.data?.role === "tool" && reply !== null && frame.data.parent_id === reply.id;
    const isOwn = about !== undefined && (about === message.id || about === reply?.id || isToolOfReply);
    if (!isOwn || isRepeat(frame)) return;
    if (frame.seq !== undefined) lastSeq = frame.seq;
    else {
      attempt = frame.attempt ?? attempt;
      offset = (frame.offset ?? 0) + (frame.text?.length ?? 0);
    }
    write(formatServerSentEvent(frame, text));
    if (about === reply?.id && (frame.type === "message.completed" || frame.type === "message.deleted")) end();
  }

  return {
    /** Takes a push; `frame` is what its text says. */
    hear(text: string, frame = JSON.parse(text) as Frame): void {
      if (sent) forward(sent, text, frame);
      else early.push({ text, frame });
    },

    /**
     * Begins, once the send was answered.
     * @param isLate the answer may be on its way for long: it starts with what is stored, and goes on from there.
     */
    async begin(result: SentMessage, isLate: boolean): Promise<void> {
      const { message, reply } = result;
      const stored = reply && reply.status !== "streaming" ? await findEnd(reply) : null;
      sent = result;
      writeEvent(createCreated(message));
      if (reply) writeEvent(createCreated(reply));
      const snapshot = reply && isLate ? findSnapshot(reply.id) : undefined;
      if (snapshot) forward(result, snapshot, JSON.parse(snapshot) as Frame);
      for (const { text, frame } of early.splice(0)) forward(result, text, frame);
      if (stored && stored.seq > lastSeq) writeEvent(stored);
      if (reply?.status !== "streaming") end();
    },
  };
}

function createCreated(message: Message): DurableEvent {
  return {
    type: "message.created",
    conversation_id: message.conversation_id,
    seq: message.seq,
    at: message.created_at,
    data: message,
  };
}
