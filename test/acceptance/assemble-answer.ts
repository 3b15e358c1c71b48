import type { Frame } from "../support/socket.ts";

type Push = Frame & {
  message_id?: string;
  attempt?: number;
  offset?: number;
  text?: string;
  part?: "reasoning";
  reasoning?: string;
};

/** An answer that a client has assembled from frames. */
export type AssembledAnswer = {
  text: string;
  reasoning: string;
  /** The attempt numbers, in order and without duplicates. */
  attempts: number[];
  deltaCount: number;
  resets: { attempt: number; text: string }[];
  /** The completed message. */
  finalMessage: Record<string, unknown> | null;
};

/**
 * Assembles an answer from a socket's frames, as a client does.
 * @throws Error if a delta is missing or repeated, or if the final text differs from the assembled one.
 */
export function assembleAnswer(frames: readonly Frame[], messageId: string): AssembledAnswer {
  const answer: AssembledAnswer = {
    text: "",
    reasoning: "",
    attempts: [],
    deltaCount: 0,
    resets: [],
    finalMessage: null,
  };
  for (const frame of frames.flatMap(listPushes)) applyPush(answer, frame, messageId);
  return answer;
}

/** Returns the missed pushes in the ack of a subscription. Other frames are returned unchanged. */
function listPushes(frame: Frame): Push[] {
  return frame.type === "ack" && Array.isArray(frame.events) ? (frame.events as Push[]) : [frame as Push];
}

function applyPush(answer: AssembledAnswer, frame: Push, messageId: string): void {
  const pushMessageId = frame.message_id ?? frame.data?.id;
  if (pushMessageId !== messageId) return;
  if (answer.finalMessage) throw new Error(`A ${frame.type} arrived after message.completed.`);
  switch (frame.type) {
    case "message.created":
      answer.text = frame.data?.content ?? "";
      return;
    case "message.reset":
      recordAttempt(answer, frame);
      answer.text = frame.text ?? "";
      answer.reasoning = frame.reasoning ?? "";
      answer.resets.push({ attempt: frame.attempt ?? 0, text: answer.text });
      return;
    case "message.delta": {
      recordAttempt(answer, frame);
      // The offsets of text and reasoning are separate.
      const part = frame.part ?? "text";
      if (frame.offset !== answer[part].length)
        throw new Error(
          `The ${part} delta starts at ${frame.offset}, but the answer has ${answer[part].length} characters of ${part}.`,
        );
      answer[part] += frame.text;
      answer.deltaCount += 1;
      return;
    }
    case "message.completed":
      answer.finalMessage = frame.data ?? {};
      if (answer.text !== frame.data?.content)
        throw new Error(
          `The assembled text is ${JSON.stringify(answer.text)}, but the final one is ${JSON.stringify(frame.data?.content)}.`,
        );
  }
}

function recordAttempt({ attempts }: AssembledAnswer, { type, attempt = 0 }: Push): void {
  const lastAttempt = attempts.at(-1);
  if (lastAttempt !== undefined && attempt < lastAttempt)
    throw new Error(`${type}: attempt ${attempt} arrived after attempt ${lastAttempt}.`);
  if (lastAttempt !== undefined && attempt > lastAttempt && type === "message.delta")
    throw new Error(`Attempt ${attempt} started without a reset.`);
  if (attempt !== lastAttempt) attempts.push(attempt);
}

/** Returns the sequence numbers of all durable events in a socket's frames, in order of arrival. */
export const listSeqs = (frames: readonly Frame[]): number[] =>
  frames
    .flatMap(listPushes)
    .flatMap((frame) => (frame.type !== "ack" && typeof frame.seq === "number" ? [frame.seq] : []));

/** Returns the numbers from `first` to `last`. */
export const range = (first: number, last: number): number[] =>
  Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
