import type { BusItem } from "./transport.ts";

/**
 * The messages of one instance on a channel within a moment. `number` rises with each envelope of the sender; `previous` is
 * the number of the preceding one on the same channel, 0 if there was none or the sender has forgotten it.
 */
export type EnvelopeContent = { from: string; number: number; previous: number; messages: BusItem[] };

export const writeEnvelope = ({ from, number, previous, messages }: EnvelopeContent): string =>
  JSON.stringify([from, number, previous, ...messages]);

/** The beginning of an instance's envelopes: it recognizes its own without parsing them. */
export const prefixOf = (from: string): string => `${JSON.stringify([from]).slice(0, -1)},`;

/** Null: not an envelope. */
export function readEnvelope(text: string): EnvelopeContent | null {
  try {
    const [from, number, previous, ...messages] = JSON.parse(text) as [unknown, unknown, unknown, ...unknown[]];
    if (typeof from !== "string" || !Number.isInteger(number) || !Number.isInteger(previous)) return null;
    return { from, number: Number(number), previous: Number(previous), messages: messages.filter(isItem) };
  } catch {
    return null;
  }
}

const isItem = (value: unknown): value is BusItem =>
  typeof value === "object" && value !== null && typeof (value as { type?: unknown }).type === "string";
