import type { StoredMessage } from "./rest.ts";
import type { Frame } from "./socket.ts";

/** An answer as a client assembles it from the frames of its sockets. */
export type ReceivedAnswer = {
  text: string;
  /** The attempt numbers, in order, without duplicates. */
  attempts: number[];
  resetCount: number;
  /** The message in its final state. */
  final: StoredMessage | null;
  /** Whether the client received the final state in the recovered events after a reconnect. They contain no deltas or resets. */
  isFinalRecovered: boolean;
  /** Descriptions of deltas that don't continue the text, attempts without a reset, and frames after the final one. */
  problems: string[];
};

/** Assembles an answer from the frames of one or more sockets. */
export function assembleAnswer(frames: readonly Frame[], answerId: string): ReceivedAnswer {
  const answer: ReceivedAnswer = {
    text: "",
    attempts: [],
    resetCount: 0,
    final: null,
    isFinalRecovered: false,
    problems: [],
  };
  for (const frame of frames)
    for (const event of expandEvents(frame))
      if ((event.message_id ?? event.data?.id) === answerId) applyFrame(answer, event, event !== frame);
  return answer;
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

function applyFrame(answer: ReceivedAnswer, frame: Frame, isRecovered: boolean): void {
  const { type, attempt = 0, offset, text = "", data } = frame;
  if (answer.final !== null) answer.problems.push(`expected no frame after message.completed, but got ${type}`);
  if (type === "message.created") answer.text = data?.content ?? "";
  if (type === "message.reset") {
    recordAttempt(answer, type, attempt);
    answer.text = text;
    answer.resetCount += 1;
  }
  if (type === "message.delta") {
    recordAttempt(answer, type, attempt);
    if (offset !== answer.text.length)
      answer.problems.push(`expected a delta at offset ${answer.text.length}, but got one at ${offset}`);
    answer.text += text;
  }
  if (type === "message.completed") {
    answer.final = data as StoredMessage;
    answer.isFinalRecovered = isRecovered;
    if (isRecovered) answer.text = data?.content ?? "";
  }
}

function recordAttempt({ attempts, problems }: ReceivedAnswer, type: string, attempt: number): void {
  const lastAttempt = attempts.at(-1);
  if (attempt === lastAttempt) return;
  if (lastAttempt !== undefined && attempt < lastAttempt)
    problems.push(`expected attempt ${lastAttempt} or later, but got ${attempt}`);
  if (lastAttempt !== undefined && type === "message.delta")
    problems.push(`expected a message.reset before attempt ${attempt}, but got a delta`);
  attempts.push(attempt);
}
