import type { StoredMessage } from "./rest.ts";
import type { Frame } from "./socket.ts";

/** An answer as a client has it that follows the frames of its sockets. */
export type Reading = {
  text: string;
  /** In order, each once. */
  attempts: number[];
  resets: number;
  /** The message in its final state. */
  final: StoredMessage | null;
  /** Whether the end was among the missed events of a recovery: those contain no deltas and resets. */
  isEndRecovered: boolean;
  /** Deltas that don't continue the text, attempts without a reset, frames after the end. */
  problems: string[];
};

/** Follows one answer through frames as a client does: text so far, deltas, resets, the end. */
export function followAnswer(frames: readonly Frame[], answerId: string): Reading {
  const reading: Reading = { text: "", attempts: [], resets: 0, final: null, isEndRecovered: false, problems: [] };
  for (const frame of frames)
    for (const event of unfold(frame))
      if ((event.message_id ?? event.data?.id) === answerId) follow(reading, event, event !== frame);
  return reading;
}

/** A recovery contains the events that were missed. */
const unfold = (frame: Frame): Frame[] => (frame.type === "ack" && frame.events ? frame.events : [frame]);

/** The numbers of all durable events of a conversation that a socket received, in the order in which they came. */
export const listSeqs = (frames: readonly Frame[], conversationId: string): number[] =>
  frames
    .flatMap(unfold)
    .flatMap(({ type, seq, conversation_id }) =>
      type !== "ack" && seq !== undefined && conversation_id === conversationId ? [seq] : [],
    );

/** The messages that a socket received as `message.created`, in the order in which they came. */
export const listCreated = (frames: readonly Frame[], conversationId: string): StoredMessage[] =>
  frames
    .flatMap(unfold)
    .flatMap(({ type, data, conversation_id }) =>
      type === "message.created" && conversation_id === conversationId ? [data as StoredMessage] : [],
    );

function follow(reading: Reading, frame: Frame, isRecovered: boolean): void {
  const { type, attempt = 0, offset, text = "", data } = frame;
  if (reading.final !== null) reading.problems.push(`expected no frame after the end, but saw ${type}`);
  if (type === "message.created") reading.text = data?.content ?? "";
  if (type === "message.reset") {
    noteAttempt(reading, type, attempt);
    reading.text = text;
    reading.resets += 1;
  }
  if (type === "message.delta") {
    noteAttempt(reading, type, attempt);
    if (offset !== reading.text.length)
      reading.problems.push(`expected a delta at offset ${reading.text.length}, but saw one at ${offset}`);
    reading.text += text;
  }
  if (type === "message.completed") {
    reading.final = data as StoredMessage;
    reading.isEndRecovered = isRecovered;
    if (isRecovered) reading.text = data?.content ?? "";
  }
}

function noteAttempt({ attempts, problems }: Reading, type: string, attempt: number): void {
  const last = attempts.at(-1);
  if (attempt === last) return;
  if (last !== undefined && attempt < last) problems.push(`expected attempt ${last} or later, but saw ${attempt}`);
  if (last !== undefined && type === "message.delta")
    problems.push(`expected a message.reset before attempt ${attempt}, but saw a delta`);
  attempts.push(attempt);
}
