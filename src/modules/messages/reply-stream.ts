import { formatServerSentEvent } from "../../http/event-stream.ts";
import type { ConversationEvent, DurableEvent, EphemeralEvent, MessageEvent } from "../../protocol/events.ts";
import type { Message } from "../../protocol/message.ts";
import type { SentMessage } from "./model.ts";

/**
 * A sent message and its answer. If `duplicate` is true, the message was sent before, and its answer may already have text or be
 * complete.
 */
export type RepliedMessage = SentMessage & { duplicate?: boolean };

type ReplySink = {
  write(text: string): void;
  end(): void;
  /** Returns an answer's stored `message.completed` event. */
  findCompletion(answer: Message): Promise<DurableEvent | null>;
  /** Returns a snapshot frame of an answer that this instance is writing. */
  findSnapshot(messageId: string): string | undefined;
};

/**
 * Creates a stream of the events of one message and its answer. They are selected from the conversation's pushes. Pushes that arrive
 * before the message has been sent are buffered.
 */
export function createReplyStream({ write, end, findCompletion, findSnapshot }: ReplySink) {
  let sent: RepliedMessage | undefined;
  const bufferedPushes: { frame: string; event: ConversationEvent }[] = [];
  /** The `seq` of the newest durable event that was written. */
  let lastSeq = 0;
  /** The attempt that produced the last written text; 0 if no text was written. */
  let attempt = 0;
  const positions = { text: createPosition(), reasoning: createPosition() };
  const getPosition = ({ part }: Delta): TextPosition => positions[part ?? "text"];

  function writeEvent(event: DurableEvent): void {
    lastSeq = event.seq;
    write(formatServerSentEvent(event));
  }

  function isDuplicate(event: MessageEvent | TextEvent): boolean {
    if ("seq" in event) return event.seq <= lastSeq;
    if (event.type === "message.reset") return false;
    return event.attempt < attempt || (event.attempt === attempt && event.offset < getPosition(event).offset);
  }

  /** Removes the text that `message.created` already contained from a delta. Returns null if no text remains. */
  function trimInitialText(event: Delta): Delta | null {
    const { initialChars, hasStarted } = getPosition(event);
    const overlapChars = initialChars - event.offset;
    if (hasStarted || overlapChars === 0) return event;
    // There is a gap, because the answer completed while its text was being read. `message.completed` contains the whole text.
    if (overlapChars < 0) return null;
    if (overlapChars >= event.text.length) return null;
    return { ...event, offset: initialChars, text: event.text.slice(overlapChars) };
  }

  /** Writes a push to the stream, unless it is about another message or was already written. */
  function forwardPush({ message, reply }: RepliedMessage, frame: string, event: ConversationEvent): void {
    if (!isAboutMessage(event)) return;
    const messageId = "data" in event ? event.data.id : event.message_id;
    // The stream includes the tool messages of the answer.
    const isToolMessage =
      "data" in event && event.data.role === "tool" && reply !== null && event.data.parent_id === reply.id;
    const isRelevant = messageId === message.id || messageId === reply?.id || isToolMessage;
    if (!isRelevant || isDuplicate(event)) return;
    if ("seq" in event) {
      lastSeq = event.seq;
      write(formatServerSentEvent(event, frame));
    } else forwardText(event, frame);
    if (messageId === reply?.id && (event.type === "message.completed" || event.type === "message.deleted")) end();
  }

  function forwardText(event: TextEvent, frame: string): void {
    const trimmed = event.type === "message.delta" ? trimInitialText(event) : event;
    if (!trimmed) return;
    attempt = trimmed.attempt;
    if (trimmed.type === "message.reset") {
      advanceTo(positions.text, trimmed.text.length);
      advanceTo(positions.reasoning, trimmed.reasoning?.length ?? 0);
    } else advanceTo(getPosition(trimmed), trimmed.offset + trimmed.text.length);
    write(trimmed === event ? formatServerSentEvent(event, frame) : formatServerSentEvent(trimmed));
  }

  return {
    /** Processes a push. @param event the parsed `frame`. */
    onPush(frame: string, event = JSON.parse(frame) as ConversationEvent): void {
      if (sent) forwardPush(sent, frame, event);
      else bufferedPushes.push({ frame, event });
    },

    /**
     * Starts the stream after the message was sent.
     * @param isResumed whether the answer may already have text. If so, the stream starts with the stored text.
     */
    async start(result: SentMessage, isResumed: boolean): Promise<void> {
      const { message, reply } = result;
      const completion = reply && reply.status !== "streaming" ? await findCompletion(reply) : null;
      sent = result;
      writeEvent(createCreatedEvent(message));
      if (reply) writeEvent(createCreatedEvent(reply));
      positions.text.initialChars = reply?.content.length ?? 0;
      positions.reasoning.initialChars = reply?.reasoning?.length ?? 0;
      const snapshot = reply && isResumed ? findSnapshot(reply.id) : undefined;
      if (snapshot) forwardPush(result, snapshot, JSON.parse(snapshot) as ConversationEvent);
      for (const { frame, event } of bufferedPushes.splice(0)) forwardPush(result, frame, event);
      if (completion && completion.seq > lastSeq) writeEvent(completion);
      if (reply?.status !== "streaming") end();
    },
  };
}

/** A text or reasoning event of an answer in progress. */
type TextEvent = EphemeralEvent<"message.delta" | "message.reset">;
type Delta = EphemeralEvent<"message.delta">;

/**
 * The position in the text or the reasoning. Deltas before `offset` have already been written. `initialChars` is the length of
 * the text in `message.created`. Only the first delta is compared with `initialChars`, because it is unknown which attempt wrote that text.
 */
type TextPosition = { offset: number; initialChars: number; hasStarted: boolean };
const createPosition = (): TextPosition => ({ offset: 0, initialChars: 0, hasStarted: false });

function advanceTo(position: TextPosition, offset: number): void {
  position.offset = offset;
  position.hasStarted = true;
}

const isAboutMessage = (event: ConversationEvent): event is MessageEvent | TextEvent =>
  event.type.startsWith("message.");

function createCreatedEvent(message: Message): DurableEvent {
  return {
    type: "message.created",
    conversation_id: message.conversation_id,
    seq: message.seq,
    at: message.created_at,
    data: message,
  };
}
