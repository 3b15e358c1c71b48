import type { Frame } from "../support/socket.ts";

type Push = Frame & {
  message_id?: string;
  attempt?: number;
  offset?: number;
  text?: string;
  part?: "reasoning";
  reasoning?: string;
};

/** What a reader has of one answer. */
export type Reading = {
  text: string;
  /** What the model thought. */
  reasoning: string;
  /** As they came, each once. */
  attempts: number[];
  deltas: number;
  resets: { attempt: number; text: string }[];
  /** The message in its final state. */
  final: Record<string, unknown> | null;
};

/**
 * Follows one answer through the frames of a socket, as a client does: the text so far, then deltas, until the end.
 * @throws Error at a gap, at a repeat, and when the end tells another text.
 */
export function readAnswer(frames: readonly Frame[], messageId: string): Reading {
  const reading: Reading = { text: "", reasoning: "", attempts: [], deltas: 0, resets: [], final: null };
  for (const frame of frames.flatMap(unfold)) follow(reading, frame, messageId);
  return reading;
}

/** A recovery carries the pushes that were missed. */
function unfold(frame: Frame): Push[] {
  return frame.type === "ack" && Array.isArray(frame.events) ? (frame.events as Push[]) : [frame as Push];
}

function follow(reading: Reading, frame: Push, messageId: string): void {
  const about = frame.message_id ?? frame.data?.id;
  if (about !== messageId) return;
  if (reading.final) throw new Error(`A ${frame.type} came after the end.`);
  switch (frame.type) {
    case "message.created":
      reading.text = frame.data?.content ?? "";
      return;
    case "message.reset":
      noteAttempt(reading, frame);
      reading.text = frame.text ?? "";
      reading.reasoning = frame.reasoning ?? "";
      reading.resets.push({ attempt: frame.attempt ?? 0, text: reading.text });
      return;
    case "message.delta": {
      noteAttempt(reading, frame);
      // Each part has offsets of its own.
      const part = frame.part ?? "text";
      if (frame.offset !== reading[part].length)
        throw new Error(`The ${part} begins at ${frame.offset}, and ended at ${reading[part].length} before.`);
      reading[part] += frame.text;
      reading.deltas += 1;
      return;
    }
    case "message.completed":
      reading.final = frame.data ?? {};
      if (reading.text !== frame.data?.content)
        throw new Error(`Read: ${JSON.stringify(reading.text)}; stored: ${JSON.stringify(frame.data?.content)}.`);
  }
}

function noteAttempt({ attempts }: Reading, { type, attempt = 0 }: Push): void {
  const last = attempts.at(-1);
  if (last !== undefined && attempt < last) throw new Error(`${type}: attempt ${attempt} came after ${last}.`);
  if (last !== undefined && attempt > last && type === "message.delta")
    throw new Error(`Attempt ${attempt} began without a reset.`);
  if (attempt !== last) attempts.push(attempt);
}

/** The numbers of all durable events that a socket has got, by recovery or by push, in the order in which they came. */
export const listSeqs = (frames: readonly Frame[]): number[] =>
  frames.flatMap(unfold).flatMap((frame) => (frame.type !== "ack" && typeof frame.seq === "number" ? [frame.seq] : []));

/** The numbers from `first` to `last`. */
export const range = (first: number, last: number): number[] =>
  Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
