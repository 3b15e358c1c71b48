import type { StoredMessage } from "./rest.ts";
import type { Frame } from "./socket.ts";

/** An answer as a client assembles it from the frames of its sockets. */
export type ReceivedAnswer = {
  text: string;
  /** The attempt numbers, in order, without duplicates. */
  attempts: number[];
  resets: number;
  /** The message in its final state. */
  final: StoredMessage | null;
  /** Whether the client received the final state in the recovered events after a reconnect. They contain no deltas or resets. */
  isFinalRecovered: boolean;
  /** Descriptions of deltas that don't continue the text, attempts without a reset, and frames after the final one. */
  problems: string[];
};

/** Assembles an answer from the frames of one or more sockets. */
export function assembleAnswer(frames: readonly Frame[], answerId: string): ReceivedAnswer {
  const reading: ReceivedAnswer = {
    text: "",
    attempts: [],
    resets: 0,
    final: null,
    isFinalRecovered: false,
    problems: [],
  };
  for (const frame of frames)
    for (const event of expandEvents(frame))
      if ((event.message_id ?? event.data?.id) === answerId) applyFrame(reading, event, event !== frame);
  return reading;
}

/** Returns the recovered events if the frame acknowledges `subscribe`, otherwise the frame itself. */
const expandEvents = (frame: Frame): Frame[] => (frame.type === "ack" && frame.events ? frame.events : [frame]);

/** Returns the sequence numbers of a conversation's durable events that a socket received, in arrival order. */
export const listSeqs = (frames: readonly Frame[], conversationId: string): number[] =>
  frames
    .flatMap(expandEvents)
    .flatMap(({ type, seq, conversation_id }) =>
      type !== "ack" && seq !== undefined && conversation_id === conversationId ? [seq] : [],
    );

/** Returns the messages in a conversation's `message.created` events that a socket received, in arrival order. */
export const listCreatedMessages = (frames: readonly Frame[], conversationId: string): StoredMessage[] =>
  frames
    .flatMap(expandEvents)
    .flatMap(({ type, data, conversation_id }) =>
      type === "message.created" && conversation_id === conversationId ? [data as StoredMessage] : [],
    );

function applyFrame(reading: ReceivedAnswer, frame: Frame, isRecovered: boolean): void {
  const { type, attempt = 0, offset, text = "", data } = frame;
  if (reading.final !== null) reading.problems.push(`expected no frame after message.completed, but got ${type}`);
  if (type === "message.created") reading.text = data?.content ?? "";
  if (type === "message.reset") {
    recordAttempt(reading, type, attempt);
    reading.text = text;
    reading.resets += 1;
  }
  if (type === "message.delta") {
    recordAttempt(reading, type, attempt);
    if (offset !== reading.text.length)
      reading.problems.push(`expected a delta at offset ${reading.text.length}, but got one at ${offset}`);
    reading.text += text;
  }
  if (type === "message.completed") {
    reading.final = data as StoredMessage;
    reading.isFinalRecovered = isRecovered;
    if (isRecovered) reading.text = data?.content ?? "";
  }
}

function recordAttempt({ attempts, problems }: ReceivedAnswer, type: string, attempt: number): void {
  const last = attempts.at(-1);
  if (attempt === last) return;
  if (last !== undefined && attempt < last) problems.push(`expected attempt ${last} or later, but got ${attempt}`);
  if (last !== undefined && type === "message.delta")
    problems.push(`expected a message.reset before attempt ${attempt}, but got a delta`);
  attempts.push(attempt);
}
