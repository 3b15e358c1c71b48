import type { Envelope } from "../instances/transport.ts";

/** NOTIFY accepts less than 8,000 bytes. */
const PAYLOAD_BYTES_MAX = 7_900;
/** The prefix of a part. */
const PART_HEAD_BYTES_MAX = 100;
/** UTF-8 bytes of one UTF-16 unit, at most. */
const BYTES_PER_UNIT_MAX = 3;
/** The longest text that is reassembled from parts. */
const PARTS_CHARS_MAX = 16 * 1024 * 1024;

/** Envelopes as lines: neither JSON nor channel names contain line breaks or begin with `#`. */
export const joinEnvelopes = (envelopes: readonly Envelope[]): string =>
  envelopes.map(({ channel, text }) => `${channel} ${text}`).join("\n");

export function* splitEnvelopes(payload: string): Generator<Envelope> {
  for (const line of payload.split("\n")) {
    const space = line.indexOf(" ");
    if (space > 0) yield { channel: line.slice(0, space), text: line.slice(space + 1) };
  }
}

/**
 * Packs envelopes into payloads for NOTIFY: several small ones together, a large one in parts.
 * @param from identifies the sender, to distinguish parts of different senders.
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
    if (lineBytes > PAYLOAD_BYTES_MAX) payloads.push(...cutIntoParts(line, lineBytes, from));
    else {
      payload = payload === "" ? line : `${payload}\n${line}`;
      bytes += lineBytes + 1;
    }
  }
  if (payload !== "") payloads.push(payload);
  return payloads;
}

function cutIntoParts(line: string, lineBytes: number, from: string): string[] {
  const room = PAYLOAD_BYTES_MAX - PART_HEAD_BYTES_MAX;
  const units = lineBytes === line.length ? room : Math.floor(room / BYTES_PER_UNIT_MAX);
  const cuts: string[] = [];
  for (let start = 0; start < line.length; ) {
    const end = findCut(line, start + units);
    cuts.push(line.slice(start, end));
    start = end;
  }
  return cuts.map((cut, index) => `#${from} ${index} ${cuts.length} ${cut}`);
}

/** Never splits a surrogate pair. */
function findCut(text: string, end: number): number {
  if (end >= text.length) return text.length;
  return (text.charCodeAt(end) & 0xfc00) === 0xdc00 ? end - 1 : end;
}

const PART = /^#(\S+) (\d+) (\d+) /;

/** Reassembles parts. A sender sends one text after the other; one with a missing part is dropped. */
export function createPartJoiner() {
  const parts = new Map<string, { texts: string[]; chars: number }>();

  return {
    /** @returns a complete payload, or null. */
    add(payload: string): string | null {
      if (!payload.startsWith("#")) return payload;
      const [head, from = "", index = "", count = ""] = PART.exec(payload) ?? [];
      if (head === undefined) return null;
      const known = Number(index) === 0 ? { texts: [], chars: 0 } : parts.get(from);
      parts.delete(from);
      if (!known || known.texts.length !== Number(index)) return null;
      const text = payload.slice(head.length);
      const joined = { texts: [...known.texts, text], chars: known.chars + text.length };
      if (joined.texts.length === Number(count)) return joined.texts.join("");
      if (joined.chars < PARTS_CHARS_MAX) parts.set(from, joined);
      return null;
    },
    /** Discards a payload that will not be completed. */
    clear: () => parts.clear(),
  };
}
