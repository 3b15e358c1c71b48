import type { Frame } from "../support/socket.ts";

type Push = Frame & {
  message_id?: string;
  attempt?: number;
  offset?: number;
  text?: string;
  part?: "reasoning";
  reasoning?: string;
};

/** The state of a client that follows one answer. */
export type Reading = {
  text: string;
  /** The model's reasoning. */
  reasoning: string;
  /** Each attempt once, in order. */
  attempts: number[];
  deltas: number;
  resets: { attempt: number; text: string }[];
  /** The message in its final state. */
  final: Record<string, unknown> | null;
};

/**
 * Follows one answer through a socket's frames, as a client does: the text so far, then deltas, until the end.
 * @throws Error at a gap, at a repeat, or if the final text differs.
 */
export function readAnswer(frames: readonly Frame[], messageId: string): Reading {
  const reading: Reading = { text: "", reasoning: "", attempts: [], deltas: 0, resets: [], final: null };
  for (const frame of frames.flatMap(listPushes)) follow(reading, frame, messageId);
  return reading;
}

/** A recovery contains the missed pushes. */
function listPushes(frame: Frame): Push[] {
  return frame.type === "ack" && Array.isArray(frame.events) ? (frame.events as Push[]) : [frame as Push];
}

function follow(reading: Reading, frame: Push, messageId: string): void {
  const about = frame.message_id ?? frame.data?.id;
  if (about !== messageId) return;
  if (reading.final) throw new Error(`A ${frame.type} arrived after the end.`);
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
      // Each part has its own offsets.
      const part = frame.part ?? "text";
      if (frame.offset !== reading[part].length)
        throw new Error(`The ${part} starts at ${frame.offset}, but ended at ${reading[part].length} before.`);
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
  if (last !== undefined && attempt < last) throw new Error(`${type}: attempt ${attempt} arrived after ${last}.`);
  if (last !== undefined && attempt > last && type === "message.delta")
    throw new Error(`Attempt ${attempt} started without a reset.`);
  if (attempt !== last) attempts.push(attempt);
}

/** The sequence numbers of all durable events received by a socket, by recovery or push, in order of arrival. */
export const listSeqs = (frames: readonly Frame[]): number[] =>
  frames
    .flatMap(listPushes)
    .flatMap((frame) => (frame.type !== "ack" && typeof frame.seq === "number" ? [frame.seq] : []));

/** The numbers from `first` to `last`. */
export const range = (first: number, last: number): number[] =>
  Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
