import type { StoredMessage } from "./rest.ts";
import type { Frame } from "./socket.ts";

/** An answer as a client sees it that follows the frames of its sockets. */
export type Reading = {
  text: string;
  /** The attempt numbers, in order, without duplicates. */
  attempts: number[];
  resets: number;
  /** The message in its final state. */
  final: StoredMessage | null;
  /** Whether the end was recovered after a reconnect. Recovered events contain no deltas or resets. */
  isEndRecovered: boolean;
  /** Deltas that don't continue the text, attempts without a reset, frames after the end. */
  problems: string[];
};

/** Builds an answer from frames as a client does: existing text, deltas, resets, the end. */
export function followAnswer(frames: readonly Frame[], answerId: string): Reading {
  const reading: Reading = { text: "", attempts: [], resets: 0, final: null, isEndRecovered: false, problems: [] };
  for (const frame of frames)
    for (const event of unfold(frame))
      if ((event.message_id ?? event.data?.id) === answerId) follow(reading, event, event !== frame);
  return reading;
}

/** Returns the missed events in an acknowledgement of `subscribe`, otherwise the frame itself. */
const unfold = (frame: Frame): Frame[] => (frame.type === "ack" && frame.events ? frame.events : [frame]);

/** Returns the sequence numbers of all durable events that a socket received for a conversation, in order of arrival. */
export const listSeqs = (frames: readonly Frame[], conversationId: string): number[] =>
  frames
    .flatMap(unfold)
    .flatMap(({ type, seq, conversation_id }) =>
      type !== "ack" && seq !== undefined && conversation_id === conversationId ? [seq] : [],
    );

/** Returns the messages that a socket received as `message.created`, in order of arrival. */
export const listCreated = (frames: readonly Frame[], conversationId: string): StoredMessage[] =>
  frames
    .flatMap(unfold)
    .flatMap(({ type, data, conversation_id }) =>
      type === "message.created" && conversation_id === conversationId ? [data as StoredMessage] : [],
    );

function follow(reading: Reading, frame: Frame, isRecovered: boolean): void {
  const { type, attempt = 0, offset, text = "", data } = frame;
  if (reading.final !== null) reading.problems.push(`expected no frame after the end, but got ${type}`);
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
    reading.isEndRecovered = isRecovered;
    if (isRecovered) reading.text = data?.content ?? "";
  }
}

function recordAttempt({ attempts, problems }: Reading, type: string, attempt: number): void {
  const last = attempts.at(-1);
  if (attempt === last) return;
  if (last !== undefined && attempt < last) problems.push(`expected attempt ${last} or later, but got ${attempt}`);
  if (last !== undefined && type === "message.delta")
    problems.push(`expected a message.reset before attempt ${attempt}, but got a delta`);
  attempts.push(attempt);
}
