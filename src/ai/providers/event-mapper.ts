import type { ProviderEnd, ProviderPart } from "../provider.ts";
import type { ServerSentEvent } from "../transport/event-stream.ts";

export type MappedEvent = ProviderPart | ProviderEnd;

/** Maps the events of one answer to parts. */
export type EventMapper = {
  /** @throws SyntaxError if the data isn't JSON. */
  map(event: ServerSentEvent): MappedEvent | null;
  /** Returns the next remaining part of the last event, or null. */
  mapNext?(): MappedEvent | null;
  /** Whether the answer is complete, even if the stream hasn't ended. Later errors are then ignored. */
  isComplete?(): boolean;
  /** Called if the stream ended without an end event. Returns null if the answer is incomplete. */
  end?(): ProviderEnd | null;
  /**
   * Maps an answer that was sent as one JSON document: returns its parts in order, then its end. Returns an empty list if the
   * document isn't an answer. Not called for documents with an error.
   */
  mapDocument?(document: unknown): MappedEvent[];
  /** Whether a JSON document is an event rather than an answer. Some servers send events as JSON lines. */
  isEvent?(document: unknown): boolean;
};

const MARKER_LENGTH_MAX = 16;

/** Whether an event's data is empty or `[DONE]`. Mappers for protocols that don't define this marker ignore it. */
export function isBlankData(data: string): boolean {
  if (data.length > MARKER_LENGTH_MAX) return false;
  const text = data.trim();
  return text === "" || text === "[DONE]";
}

/** Receives the events of one answer. */
export type AnswerSink = {
  /** Must not be called after an end. */
  push(mapped: MappedEvent): void;
  /** Whether the end has arrived or the answer is no longer needed. */
  isDone(): boolean;
};

export type BodySource = {
  mapper: EventMapper;
  /** Describes the response for the log: `HTTP 200 with text/html`. */
  responseDescription: string;
  /** Values that must never be logged. */
  secrets: readonly string[];
};

/** Reads an answer from the packets of a response body. */
export type BodyReader = {
  /** @throws Error if the answer has failed. */
  push(bytes: Uint8Array): void;
  /** Called when the body has ended, with the connection's error if it broke. @throws Error if the answer has failed. */
  end(error: Error | null): void;
  /** Whether the answer is complete, even if the body hasn't ended. */
  isComplete(): boolean;
};
