import type { Envelope } from "../instances/transport.ts";

/** The maximum size of a payload. NOTIFY accepts fewer than 8,000 bytes. */
const PAYLOAD_BYTES_MAX = 7_900;
/** The maximum size of the prefix that marks a payload as one part of a split envelope. */
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
 * Packs envelopes into payloads for NOTIFY. Small envelopes share a payload. Large envelopes are split into parts.
 * @param senderId allows receivers to tell different senders' parts apart.
 */
export function packEnvelopes(envelopes: readonly Envelope[], senderId: string): string[] {
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
    if (lineBytes > PAYLOAD_BYTES_MAX) payloads.push(...splitIntoParts(line, lineBytes, senderId));
    else {
      payload = payload === "" ? line : `${payload}\n${line}`;
      bytes += lineBytes + 1;
    }
  }
  if (payload !== "") payloads.push(payload);
  return payloads;
}

function splitIntoParts(line: string, lineBytes: number, senderId: string): string[] {
  const bytesPerPart = PAYLOAD_BYTES_MAX - PART_PREFIX_BYTES_MAX;
  const unitsPerPart = lineBytes === line.length ? bytesPerPart : Math.floor(bytesPerPart / BYTES_PER_UNIT_MAX);
  const parts: string[] = [];
  for (let start = 0; start < line.length; ) {
    const end = findPartEnd(line, start + unitsPerPart);
    parts.push(line.slice(start, end));
    start = end;
  }
  return parts.map((part, index) => `#${senderId} ${index} ${parts.length} ${part}`);
}

/** Returns the last index up to `end` at which the text can be split without breaking a surrogate pair. */
function findPartEnd(text: string, end: number): number {
  if (end >= text.length) return text.length;
  return (text.charCodeAt(end) & 0xfc00) === 0xdc00 ? end - 1 : end;
}

const PART_PREFIX = /^#(\S+) (\d+) (\d+) /;

/** Creates a buffer that reassembles parts. Each sender's parts arrive in order. A payload with a missing part is dropped. */
export function createPartAssembler() {
  const partsBySender = new Map<string, { texts: string[]; chars: number }>();

  return {
    /** Adds a whole payload or a part of one. @returns the payload if it is complete, or null. */
    add(payload: string): string | null {
      if (!payload.startsWith("#")) return payload;
      const [prefix, senderId = "", index = "", count = ""] = PART_PREFIX.exec(payload) ?? [];
      if (prefix === undefined) return null;
      const earlierParts = Number(index) === 0 ? { texts: [], chars: 0 } : partsBySender.get(senderId);
      partsBySender.delete(senderId);
      if (!earlierParts || earlierParts.texts.length !== Number(index)) return null;
      const text = payload.slice(prefix.length);
      const parts = { texts: [...earlierParts.texts, text], chars: earlierParts.chars + text.length };
      if (parts.texts.length === Number(count)) return parts.texts.join("");
      if (parts.chars < JOINED_CHARS_MAX) partsBySender.set(senderId, parts);
      return null;
    },
    /** Discards incomplete payloads. */
    clear: () => partsBySender.clear(),
  };
}
