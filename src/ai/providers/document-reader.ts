import { isBareError, isErrorValue } from "../error-fields.ts";
import { mapErrorFields } from "../provider-error.ts";
import { BrokenStreamError } from "../transport/event-stream.ts";
import { createBracketScanner } from "./bracket-scanner.ts";
import type { AnswerSink, BodyReader, BodySource, MappedEvent } from "./event-mapper.ts";
import { createEventReader } from "./event-reader.ts";
import { createJsonEventParser } from "./json-events.ts";
import { UnexpectedResponseError } from "./unexpected-response.ts";

/** Maximum size of a JSON document that is read as an answer. Even the longest answer is far smaller. */
export const DOCUMENT_BYTES_MAX = 16 * 1024 * 1024;

/** Maximum length of a document's start that is logged, in UTF-16 code units. */
const START_LENGTH_MAX = 300;

/**
 * Creates a reader for a JSON document, which some servers send instead of the requested stream. The document ends with its
 * last bracket, even if the body continues. If the document is an event, the body is read as a stream of JSON events.
 */
export function createDocumentReader(source: BodySource, sink: AnswerSink): BodyReader {
  const { mapper, origin, secrets } = source;
  const scan = createBracketScanner();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  let events: BodyReader | null = null;

  function process(documentBytes: Uint8Array, followingBytes: Uint8Array): void {
    const text = new TextDecoder().decode(documentBytes);
    const start = text.slice(0, START_LENGTH_MAX);
    const document = parse(text, start);
    if (mapper.isEvent?.(document)) {
      events = createEventReader(source, sink, createJsonEventParser());
      events.push(documentBytes);
      if (!sink.isDone()) events.push(followingBytes);
      return;
    }
    for (const event of map(document)) if (!sink.isDone()) sink.push(event);
    if (sink.isDone()) return;
    const hasMore = Buffer.from(followingBytes).toString().trim() !== "";
    const description = hasMore ? "several JSON documents" : "a JSON document";
    throw new UnexpectedResponseError(`${origin}: ${description} instead of an event stream: ${start}`);
  }

  /** Maps a document to events. Returns an empty list if the document is neither an answer nor an error. */
  function map(document: unknown): MappedEvent[] {
    const answer = isErrorValue(document) ? [] : (mapper.mapDocument?.(document) ?? []);
    if (answer.length > 0 || (!isErrorValue(document) && !isBareError(document))) return answer;
    return [{ type: "error", error: mapErrorFields(document, secrets) }];
  }

  function parse(text: string, start: string): unknown {
    try {
      return JSON.parse(text);
    } catch {
      throw new UnexpectedResponseError(`${origin}: invalid JSON: ${start}`);
    }
  }

  return {
    isComplete: () => events?.isComplete() ?? false,
    push(packet) {
      if (events) return events.push(packet);
      bytes += packet.byteLength;
      if (bytes > DOCUMENT_BYTES_MAX)
        throw new BrokenStreamError(`a document of more than ${DOCUMENT_BYTES_MAX} bytes`);
      const end = scan(packet);
      // The runtime may reuse a packet's memory.
      chunks.push(new Uint8Array(packet.subarray(0, end < 0 ? packet.byteLength : end)));
      if (end >= 0) process(Buffer.concat(chunks), packet.subarray(end));
    },
    end(error) {
      if (events) return events.end(error);
      throw error ?? new BrokenStreamError("a JSON document that breaks off");
    },
  };
}
