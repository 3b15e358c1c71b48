/**
 * Most bytes between two events: one event with all comments before it. It bounds the memory of a line without end and
 * the work of a storm of comments; the largest delta seen in practice is far below.
 */
export const EVENT_BYTES_MAX = 8 * 1024 * 1024;

/** The name of an event that is an error. Some servers say so by a field `error` of their own, which is such an event too. */
export const ERROR_EVENT = "error";

export type ServerSentEvent = { event: string | null; data: string };

/** Finds the events in the packets of a body. */
export type EventParser = {
  /** The events that this packet completes. @throws BrokenStreamError when there are too many bytes without one. */
  push(packet: Uint8Array): ServerSentEvent[];
  /** What the end of the body completes. */
  end(): ServerSentEvent[];
};

/** The body is no event stream that can be followed; the text is for the log. */
export class BrokenStreamError extends Error {}

const streaming = { stream: true };
const lineEnd = /\r\n|\n|\r/;

/**
 * Reads server-sent events (WHATWG HTML 9.2) out of the packets of a body, which may cut characters and line ends
 * anywhere. A last event without its blank line still counts, since several servers end so.
 */
export function createEventParser(): EventParser {
  const decoder = new TextDecoder();
  // Parts of a line whose end has not come: joined once, so that a line of megabytes is not copied per packet.
  let pending: string[] = [];
  let endedWithCarriageReturn = false;
  let barrenBytes = 0;
  let event: string | null = null;
  let data: string[] = [];
  /** Lines of a JSON object that belong to no event, up to its last one. */
  let foreign: string[] = [];

  function takeLine(line: string, events: ServerSentEvent[]): void {
    if (line === "") {
      if (data.length > 0) events.push({ event, data: data.length === 1 ? (data[0] ?? "") : data.join("\n") });
      // The standard drops an event without data; an error without a word is an error nevertheless.
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

  /** Gateways write an error into a stream as it is: a JSON object on one line, or on several, indented. */
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
    // The second half of a line end that two packets share.
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

  /** What nearly every packet of a model is: one event of one line, whole. @returns its data, null for any other text. */
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
