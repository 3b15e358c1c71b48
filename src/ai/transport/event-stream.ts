/**
 * Maximum size of an event, including the comments before it. Without this limit, an endless line would exhaust memory. Real
 * events are far smaller.
 */
export const EVENT_BYTES_MAX = 8 * 1024 * 1024;

/** Name of an error event. A line with the field `error` is also returned as an error event. */
export const ERROR_EVENT = "error";

export type ServerSentEvent = { event: string | null; data: string };

export type EventParser = {
  /** Returns the events that this packet completes. @throws BrokenStreamError if an event is too large. */
  push(packet: Uint8Array): ServerSentEvent[];
  /** Returns the events that the end of the body completes. */
  end(): ServerSentEvent[];
};

/** The body isn't a valid event stream. The message is for the log. */
export class BrokenStreamError extends Error {}

const streaming = { stream: true };
const lineEnd = /\r\n|\n|\r/;

/**
 * Creates a parser for server-sent events (WHATWG HTML 9.2). Packets may be split anywhere, even within a character. Unlike
 * in the standard, the last event needs no blank line, because several servers omit it.
 */
export function createEventParser(): EventParser {
  const decoder = new TextDecoder();
  // Chunks of an incomplete line. They are joined only once, so that a long line isn't copied for each packet.
  let pendingChunks: string[] = [];
  let endedWithCarriageReturn = false;
  let bytesSinceEvent = 0;
  let event: string | null = null;
  let data: string[] = [];
  /** Lines of an indented JSON object outside of any event. */
  let jsonLines: string[] = [];

  function processLine(line: string, events: ServerSentEvent[]): void {
    if (line === "") {
      if (data.length > 0) events.push({ event, data: data.length === 1 ? (data[0] ?? "") : data.join("\n") });
      // The standard drops events without data, but an error event must not be lost.
      else if (event === ERROR_EVENT) events.push({ event, data: "" });
      event = null;
      data = [];
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon === -1 ? line : line.slice(0, colon);
    if (field !== "data" && field !== "event" && field !== "error") {
      processUnknownLine(line, events);
      return;
    }
    const value = colon === -1 ? "" : line.slice(line.charCodeAt(colon + 1) === 0x20 ? colon + 2 : colon + 1);
    if (field === "data") data.push(value);
    else if (field === "event") event = value;
    else if (value !== "") events.push({ event: ERROR_EVENT, data: value });
  }

  /** Processes a line without a known field. Some gateways write errors into a stream as plain JSON, on one or more lines. */
  function processUnknownLine(line: string, events: ServerSentEvent[]): void {
    if (line.startsWith('{"') && line.endsWith("}")) events.push({ event: null, data: line });
    if (jsonLines.length === 0 && line !== "{") return;
    jsonLines.push(line);
    if (line !== "}") return;
    events.push({ event: null, data: jsonLines.join("\n") });
    jsonLines = [];
  }

  function processText(text: string): ServerSentEvent[] {
    const events: ServerSentEvent[] = [];
    // A CRLF may be split between two packets.
    const input = endedWithCarriageReturn && text.startsWith("\n") ? text.slice(1) : text;
    if (text !== "") endedWithCarriageReturn = text.endsWith("\r");
    const hasCarriageReturn = input.includes("\r");
    if (!hasCarriageReturn && !input.includes("\n")) {
      if (input !== "") pendingChunks.push(input);
      return events;
    }
    const lines = (pendingChunks.length > 0 ? pendingChunks.join("") + input : input).split(
      hasCarriageReturn ? lineEnd : "\n",
    );
    const incompleteLine = lines.pop() ?? "";
    pendingChunks = incompleteLine === "" ? [] : [incompleteLine];
    for (const line of lines) processLine(line, events);
    return events;
  }

  /** Fast path for a packet with exactly one single-line event. Returns its data, or null for any other packet. */
  function findPlainData(text: string): string | null {
    if (pendingChunks.length > 0 || data.length > 0 || event !== null || endedWithCarriageReturn) return null;
    if (!text.startsWith("data: ") || text.indexOf("\n") !== text.length - 2 || !text.endsWith("\n\n")) return null;
    return text.includes("\r") ? null : text.slice(6, -2);
  }

  return {
    push(packet) {
      const text = decoder.decode(packet, streaming);
      const plainData = findPlainData(text);
      const events = plainData === null ? processText(text) : [{ event: null, data: plainData }];
      bytesSinceEvent = events.length > 0 ? 0 : bytesSinceEvent + packet.byteLength;
      if (bytesSinceEvent > EVENT_BYTES_MAX) throw new BrokenStreamError(`${EVENT_BYTES_MAX} bytes without an event`);
      return events;
    },
    end: () => processText(`${decoder.decode()}\n\n`),
  };
}
