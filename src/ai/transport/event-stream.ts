/**
 * Most bytes of one event including the comments before it. Limits the memory for an endless line and the work for a flood
 * of comments; the largest delta seen in practice is far smaller.
 */
export const EVENT_BYTES_MAX = 8 * 1024 * 1024;

/** The name of an error event. A server's own `error` field counts as such an event too. */
export const ERROR_EVENT = "error";

export type ServerSentEvent = { event: string | null; data: string };

/** Finds the events in the packets of a body. */
export type EventParser = {
  /** Returns the events that this packet completes. @throws BrokenStreamError if an event is too large. */
  push(packet: Uint8Array): ServerSentEvent[];
  /** Returns the events that the end of the body completes. */
  end(): ServerSentEvent[];
};

/** The body isn't a readable event stream; the message is for the log. */
export class BrokenStreamError extends Error {}

const streaming = { stream: true };
const lineEnd = /\r\n|\n|\r/;

/**
 * Reads server-sent events (WHATWG HTML 9.2) from the packets of a body, which may split characters and line ends anywhere.
 * A last event without a blank line counts, because several servers end that way.
 */
export function createEventParser(): EventParser {
  const decoder = new TextDecoder();
  // Parts of an incomplete line: joined once, so that a line of megabytes isn't copied per packet.
  let pending: string[] = [];
  let endedWithCarriageReturn = false;
  let barrenBytes = 0;
  let event: string | null = null;
  let data: string[] = [];
  /** Lines of a JSON object outside any event, up to its last line. */
  let foreign: string[] = [];

  function takeLine(line: string, events: ServerSentEvent[]): void {
    if (line === "") {
      if (data.length > 0) events.push({ event, data: data.length === 1 ? (data[0] ?? "") : data.join("\n") });
      // The standard drops an event without data, but an error event still counts.
      else if (event === ERROR_EVENT) events.push({ event, data: "" });
      event = null;
      data = [];
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon === -1 ? line : line.slice(0, colon);
    if (field !== "data" && field !== "event" && field !== "error") {
      takeForeignLine(line, events);
      return;
    }
    const value = colon === -1 ? "" : line.slice(line.charCodeAt(colon + 1) === 0x20 ? colon + 2 : colon + 1);
    if (field === "data") data.push(value);
    else if (field === "event") event = value;
    else if (value !== "") events.push({ event: ERROR_EVENT, data: value });
  }

  /** Gateways write errors into a stream as plain JSON, on one line or indented. */
  function takeForeignLine(line: string, events: ServerSentEvent[]): void {
    if (line.startsWith('{"') && line.endsWith("}")) events.push({ event: null, data: line });
    if (foreign.length === 0 && line !== "{") return;
    foreign.push(line);
    if (line !== "}") return;
    events.push({ event: null, data: foreign.join("\n") });
    foreign = [];
  }

  function takeText(text: string): ServerSentEvent[] {
    const events: ServerSentEvent[] = [];
    // The second half of a CRLF that two packets share.
    const fresh = endedWithCarriageReturn && text.startsWith("\n") ? text.slice(1) : text;
    if (text !== "") endedWithCarriageReturn = text.endsWith("\r");
    const hasCarriageReturn = fresh.includes("\r");
    if (!hasCarriageReturn && !fresh.includes("\n")) {
      if (fresh !== "") pending.push(fresh);
      return events;
    }
    const lines = (pending.length > 0 ? pending.join("") + fresh : fresh).split(hasCarriageReturn ? lineEnd : "\n");
    const rest = lines.pop() ?? "";
    pending = rest === "" ? [] : [rest];
    for (const line of lines) takeLine(line, events);
    return events;
  }

  /** Fast path: one complete single-line event per packet. @returns its data; null for any other text. */
  function findPlainData(text: string): string | null {
    if (pending.length > 0 || data.length > 0 || event !== null || endedWithCarriageReturn) return null;
    if (!text.startsWith("data: ") || text.indexOf("\n") !== text.length - 2 || !text.endsWith("\n\n")) return null;
    return text.includes("\r") ? null : text.slice(6, -2);
  }

  return {
    push(packet) {
      const text = decoder.decode(packet, streaming);
      const plain = findPlainData(text);
      const events = plain === null ? takeText(text) : [{ event: null, data: plain }];
      barrenBytes = events.length > 0 ? 0 : barrenBytes + packet.byteLength;
      if (barrenBytes > EVENT_BYTES_MAX) throw new BrokenStreamError(`${EVENT_BYTES_MAX} bytes without an event`);
      return events;
    },
    end: () => takeText(`${decoder.decode()}\n\n`),
  };
}
