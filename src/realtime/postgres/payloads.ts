import type { Envelope } from "../instances/transport.ts";

/** The maximum size of a payload. NOTIFY accepts fewer than 8,000 bytes. */
const PAYLOAD_BYTES_MAX = 7_900;
/** The maximum size of a part's prefix. */
const PART_PREFIX_BYTES_MAX = 100;
/** The maximum number of UTF-8 bytes per UTF-16 code unit. */
const BYTES_PER_UNIT_MAX = 3;
/** The maximum length of a payload that is reassembled from parts. */
const JOINED_CHARS_MAX = 16 * 1024 * 1024;

/** Joins envelopes, one per line. Neither JSON nor channel names contain line breaks or begin with `#`. */
export const joinEnvelopes = (envelopes: readonly Envelope[]): string =>
  envelopes.map(({ channel, text }) => `${channel} ${text}`).join("\n");

export function* splitEnvelopes(payload: string): Generator<Envelope> {
  for (const line of payload.split("\n")) {
    const space = line.indexOf(" ");
    if (space > 0) yield { channel: line.slice(0, space), text: line.slice(space + 1) };
  }
}

/**
 * Packs envelopes into payloads for NOTIFY. Small envelopes share a payload; large ones are split into parts.
 * @param from the sender's id, by which receivers assign parts to payloads.
 */
export function packEnvelopes(envelopes: readonly Envelope[], from: string): string[] {
  const payloads: string[] = [];
  let payload = "";
  let bytes = 0;
  for (const envelope of envelopes) {
    const line = joinEnvelopes([envelope]);
    const lineBytes = Buffer.byteLength(line);
    if (payload !== "" && bytes + 1 + lineBytes > PAYLOAD_BYTES_MAX) {
      payloads.push(payload);
      payload = "";
      bytes = 0;
    }
    if (lineBytes > PAYLOAD_BYTES_MAX) payloads.push(...splitIntoParts(line, lineBytes, from));
    else {
      payload = payload === "" ? line : `${payload}\n${line}`;
      bytes += lineBytes + 1;
    }
  }
  if (payload !== "") payloads.push(payload);
  return payloads;
}

function splitIntoParts(line: string, lineBytes: number, from: string): string[] {
  const bytesPerPart = PAYLOAD_BYTES_MAX - PART_PREFIX_BYTES_MAX;
  const unitsPerPart = lineBytes === line.length ? bytesPerPart : Math.floor(bytesPerPart / BYTES_PER_UNIT_MAX);
  const parts: string[] = [];
  for (let start = 0; start < line.length; ) {
    const end = findPartEnd(line, start + unitsPerPart);
    parts.push(line.slice(start, end));
    start = end;
  }
  return parts.map((part, index) => `#${from} ${index} ${parts.length} ${part}`);
}

/** Returns the last index up to `end` at which the text can be split without breaking a surrogate pair. */
function findPartEnd(text: string, end: number): number {
  if (end >= text.length) return text.length;
  return (text.charCodeAt(end) & 0xfc00) === 0xdc00 ? end - 1 : end;
}

const PART_PREFIX = /^#(\S+) (\d+) (\d+) /;

/** Creates a buffer that reassembles parts. Each sender's parts arrive in order. A payload with a missing part is dropped. */
export function createPartAssembler() {
  const parts = new Map<string, { texts: string[]; chars: number }>();

  return {
    /** Adds a whole payload or a part of one. @returns the payload if it is complete, or null. */
    add(payload: string): string | null {
      if (!payload.startsWith("#")) return payload;
      const [prefix, from = "", index = "", count = ""] = PART_PREFIX.exec(payload) ?? [];
      if (prefix === undefined) return null;
      const incomplete = Number(index) === 0 ? { texts: [], chars: 0 } : parts.get(from);
      parts.delete(from);
      if (!incomplete || incomplete.texts.length !== Number(index)) return null;
      const text = payload.slice(prefix.length);
      const withPart = { texts: [...incomplete.texts, text], chars: incomplete.chars + text.length };
      if (withPart.texts.length === Number(count)) return withPart.texts.join("");
      if (withPart.chars < JOINED_CHARS_MAX) parts.set(from, withPart);
      return null;
    },
    /** Discards incomplete payloads. */
    clear: () => parts.clear(),
  };
}
