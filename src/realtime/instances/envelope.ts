import type { AnyBusMessage } from "./transport.ts";

/**
 * A batch of an instance's messages on a channel. `number` increases with each envelope that the sender sends on any channel.
 * `previous` is the number of the preceding envelope on the same channel, or 0 if there was none or the sender has forgotten it.
 */
export type EnvelopeContent = { senderId: string; number: number; previous: number; messages: AnyBusMessage[] };

export const serializeEnvelope = ({ senderId, number, previous, messages }: EnvelopeContent): string =>
  JSON.stringify([senderId, number, previous, ...messages]);

/** Returns the prefix of all envelopes from an instance. An instance skips its own envelopes without parsing them. */
export const createEnvelopePrefix = (senderId: string): string => `${JSON.stringify([senderId]).slice(0, -1)},`;

/** Parses an envelope. Returns null if it is invalid. */
export function parseEnvelope(text: string): EnvelopeContent | null {
  try {
    const [senderId, number, previous, ...messages] = JSON.parse(text) as [unknown, unknown, unknown, ...unknown[]];
    if (typeof senderId !== "string" || !Number.isInteger(number) || !Number.isInteger(previous)) return null;
    return { senderId, number: Number(number), previous: Number(previous), messages: messages.filter(isMessage) };
  } catch {
    return null;
  }
}

const isMessage = (value: unknown): value is AnyBusMessage =>
  typeof value === "object" && value !== null && typeof (value as { type?: unknown }).type === "string";
