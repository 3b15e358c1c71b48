import type { ProviderEnd, ProviderPart } from "../provider.ts";
import type { ServerSentEvent } from "../transport/event-stream.ts";

/** What an event of a provider says. */
export type MappedEvent = ProviderPart | ProviderEnd;

/** Translates one answer's events into our parts; new for each answer. */
export type EventMapper = {
  /** @throws SyntaxError when the data is not JSON. */
  map(event: ServerSentEvent): MappedEvent | null;
  /** What else the last event says, one after the other until null. */
  mapRest?(): MappedEvent | null;
  /** Whether the answer's text is whole, although the end of the stream has not come. Nothing after it fails the answer. */
  isComplete?(): boolean;
  /** The end when the stream ends by itself without one: null where its end marker is missing. */
  end?(): ProviderEnd | null;
  /**
   * An answer that came as one JSON document instead of a stream: its parts in order, then the end. Empty: it is none.
   * Errors by `error` or by their type don't come here.
   */
  mapWhole?(document: unknown): MappedEvent[];
  /** Whether a JSON document is one event of a stream, and not an answer: some servers send events as lines of JSON. */
  isEvent?(document: unknown): boolean;
};

/** More than a marker has. */
const MARKER_LENGTH_MAX = 16;

/** Whether the data of an event says nothing to a protocol without such a marker: servers keep connections open by it. */
export function isBlankData(data: string): boolean {
  if (data.length > MARKER_LENGTH_MAX) return false;
  const text = data.trim();
  return text === "" || text === "[DONE]";
}

/** Where the answer in a body goes. */
export type AnswerSink = {
  /** Nothing is taken after an end. */
  take(mapped: MappedEvent): void;
  /** The end is there, or nobody wants it any more. */
  isOver(): boolean;
};

export type BodySource = {
  mapper: EventMapper;
  /** Where the body comes from, for the log: `HTTP 200 with text/html`. */
  origin: string;
  /** Never to appear in a log. */
  secrets: readonly string[];
};

/** Reads the answer out of the packets of a body. */
export type BodyReader = {
  /** @throws Error when the answer has failed. */
  push(bytes: Uint8Array): void;
  /** The body has ended, by itself or by a fault. @throws Error when the answer has failed; else its end has been taken. */
  end(fault: Error | null): void;
  /** Whether the answer is whole, although the body goes on. */
  isComplete(): boolean;
};
