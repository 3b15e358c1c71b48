import type { ProviderEnd, ProviderPart } from "../provider.ts";
import type { ServerSentEvent } from "../transport/event-stream.ts";

/** What a provider's event means. */
export type MappedEvent = ProviderPart | ProviderEnd;

/** Translates the events of one answer into parts. One mapper per answer. */
export type EventMapper = {
  /** @throws SyntaxError if the data isn't JSON. */
  map(event: ServerSentEvent): MappedEvent | null;
  /** Remaining parts of the last event, one per call until null. */
  mapRest?(): MappedEvent | null;
  /** Whether the answer's text is complete before the stream ends. Later errors don't fail the answer. */
  isComplete?(): boolean;
  /** The end of an answer whose stream ended without one; null if its end marker is missing. */
  end?(): ProviderEnd | null;
  /**
   * Reads an answer that came as one JSON document instead of a stream: its parts in order, then the end. Empty: not an
   * answer. Errors marked by `error` or their type are handled before.
   */
  mapWhole?(document: unknown): MappedEvent[];
  /** Whether a JSON document is a single stream event rather than an answer: some servers send events as lines of JSON. */
  isEvent?(document: unknown): boolean;
};

/** Longer than any marker. */
const MARKER_LENGTH_MAX = 16;

/** Whether an event's data is meaningless to a protocol without such a marker: servers send it as a keep-alive. */
export function isBlankData(data: string): boolean {
  if (data.length > MARKER_LENGTH_MAX) return false;
  const text = data.trim();
  return text === "" || text === "[DONE]";
}

/** Receives the answer in a body. */
export type AnswerSink = {
  /** Nothing is taken after an end. */
  take(mapped: MappedEvent): void;
  /** The end has arrived, or the answer is no longer needed. */
  isOver(): boolean;
};

export type BodySource = {
  mapper: EventMapper;
  /** The origin of the body, for the log: `HTTP 200 with text/html`. */
  origin: string;
  /** Must never appear in a log. */
  secrets: readonly string[];
};

/** Reads the answer from the packets of a body. */
export type BodyReader = {
  /** @throws Error if the answer has failed. */
  push(bytes: Uint8Array): void;
  /** The body has ended, normally or with a fault. @throws Error if the answer has failed; otherwise its end was taken. */
  end(fault: Error | null): void;
  /** Whether the answer is complete before the body ends. */
  isComplete(): boolean;
};
