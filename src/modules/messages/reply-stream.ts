import { formatServerSentEvent } from "../../http/event-stream.ts";
import type { ConversationEvent, DurableEvent, EphemeralEvent, MessageEvent } from "../../protocol/events.ts";
import type { Message } from "../../protocol/message.ts";
import type { SentMessage } from "./model.ts";

/** The result of a send; `duplicate` if it repeated an earlier send, whose answer started long ago. */
export type RepliedMessage = SentMessage & { duplicate?: boolean };

type ReplySink = {
  write(text: string): void;
  end(): void;
  /** The stored `message.completed` of an answer. */
  findEnd(answer: Message): Promise<DurableEvent | null>;
  /** A snapshot frame of an answer being written here. */
  findSnapshot(messageId: string): string | undefined;
};

/**
 * Filters one message and its answer out of a conversation's pushes: both `message.created`, the text, and the end. Pushes
 * that arrive before the send is answered are buffered.
 */
export function createReplyStream({ write, end, findEnd, findSnapshot }: ReplySink) {
  let sent: RepliedMessage | undefined;
  const buffered: { text: string; event: ConversationEvent }[] = [];
  /** The newest durable event written. */
  let lastSeq = 0;
  /** The attempt whose text was written. 0: none yet. */
  let attempt = 0;
  const positions = { text: createPosition(), reasoning: createPosition() };
  const positionOf = ({ part }: Delta): TextPosition => positions[part ?? "text"];

  function writeEvent(event: DurableEvent): void {
    lastSeq = event.seq;
    write(formatServerSentEvent(event));
  }

  function isRepeat(event: MessageEvent | TextEvent): boolean {
    if ("seq" in event) return event.seq <= lastSeq;
    if (event.type === "message.reset") return false;
    return event.attempt < attempt || (event.attempt === attempt && event.offset < positionOf(event).offset);
  }

  /** Returns the part of a delta that `message.created` did not already contain; null: nothing. */
  function trimInitial(event: Delta): Delta | null {
    const { initialChars, hasStarted } = positionOf(event);
    const knownChars = initialChars - event.offset;
    if (hasStarted || knownChars === 0) return event;
    // The answer ended while its text was read: no snapshot exists any more, and the end contains the whole text.
    if (knownChars < 0) return null;
    if (knownChars >= event.text.length) return null;
    return { ...event, offset: initialChars, text: event.text.slice(knownChars) };
  }

  function forward({ message, reply }: RepliedMessage, text: string, event: ConversationEvent): void {
    if (!isAboutMessage(event)) return;
    const messageId = "data" in event ? event.data.id : event.message_id;
    // The tool messages of the answer belong to its stream.
    const isToolOfReply =
      "data" in event && event.data.role === "tool" && reply !== null && event.data.parent_id === reply.id;
    const isOwn = messageId === message.id || messageId === reply?.id || isToolOfReply;
    if (!isOwn || isRepeat(event)) return;
    if ("seq" in event) {
      lastSeq = event.seq;
      write(formatServerSentEvent(event, text));
    } else forwardText(event, text);
    if (messageId === reply?.id && (event.type === "message.completed" || event.type === "message.deleted")) end();
  }

  function forwardText(event: TextEvent, text: string): void {
    const added = event.type === "message.delta" ? trimInitial(event) : event;
    if (!added) return;
    attempt = added.attempt;
    if (added.type === "message.reset") {
      moveTo(positions.text, added.text.length);
      moveTo(positions.reasoning, added.reasoning?.length ?? 0);
    } else moveTo(positionOf(added), added.offset + added.text.length);
    write(added === event ? formatServerSentEvent(event, text) : formatServerSentEvent(added));
  }

  return {
    /** Receives a push; `event` is its parsed text. */
    onPush(text: string, event = JSON.parse(text) as ConversationEvent): void {
      if (sent) forward(sent, text, event);
      else buffered.push({ text, event });
    },

    /**
     * Starts once the send was answered.
     * @param isResumed the answer may have started long ago: begins with the stored state and continues from there.
     */
    async begin(result: SentMessage, isResumed: boolean): Promise<void> {
      const { message, reply } = result;
      const stored = reply && reply.status !== "streaming" ? await findEnd(reply) : null;
      sent = result;
      writeEvent(createCreated(message));
      if (reply) writeEvent(createCreated(reply));
      positions.text.initialChars = reply?.content.length ?? 0;
      positions.reasoning.initialChars = reply?.reasoning?.length ?? 0;
      const snapshot = reply && isResumed ? findSnapshot(reply.id) : undefined;
      if (snapshot) forward(result, snapshot, JSON.parse(snapshot) as ConversationEvent);
      for (const { text, event } of buffered.splice(0)) forward(result, text, event);
      if (stored && stored.seq > lastSeq) writeEvent(stored);
      if (reply?.status !== "streaming") end();
    },
  };
}

/** A text or reasoning event of an answer in progress. */
type TextEvent = EphemeralEvent<"message.delta" | "message.reset">;
type Delta = EphemeralEvent<"message.delta">;

/**
 * Position in the text or the reasoning: deltas below `offset` were written as part of a snapshot. `initialChars`: how much
 * `message.created` contained; it applies until the first event of it arrives, because its attempt is unknown.
 */
type TextPosition = { offset: number; initialChars: number; hasStarted: boolean };
const createPosition = (): TextPosition => ({ offset: 0, initialChars: 0, hasStarted: false });

function moveTo(position: TextPosition, offset: number): void {
  position.offset = offset;
  position.hasStarted = true;
}

const isAboutMessage = (event: ConversationEvent): event is MessageEvent | TextEvent =>
  event.type.startsWith("message.");

function createCreated(message: Message): DurableEvent {
  return {
    type: "message.created",
    conversation_id: message.conversation_id,
    seq: message.seq,
    at: message.created_at,
    data: message,
  };
}
