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

/** Maximum length of the logged start of a document, in UTF-16 code units. */
const START_LENGTH_MAX = 300;

/**
 * Creates a reader for a JSON document, which some servers send instead of the requested stream. The document ends with its
 * last bracket, even if the body continues. If the document is an event, the body is read as a stream of JSON events.
 */
export function createDocumentReader(source: BodySource, sink: AnswerSink): BodyReader {
  const { mapper, responseDescription, secrets } = source;
  const findDocumentEnd = createBracketScanner();
  const chunks: Uint8Array[] = [];
  let totalBytes = 0;
  let eventReader: BodyReader | null = null;

  function processDocument(documentBytes: Uint8Array, followingBytes: Uint8Array): void {
    const text = new TextDecoder().decode(documentBytes);
    const start = text.slice(0, START_LENGTH_MAX);
    const document = parseDocument(text, start);
    if (mapper.isEvent?.(document)) {
      eventReader = createEventReader(source, sink, createJsonEventParser());
      eventReader.push(documentBytes);
      if (!sink.isDone()) eventReader.push(followingBytes);
      return;
    }
    for (const event of mapToEvents(document)) if (!sink.isDone()) sink.push(event);
    if (sink.isDone()) return;
    const hasMore = Buffer.from(followingBytes).toString().trim() !== "";
    const description = hasMore ? "several JSON documents" : "a JSON document";
    throw new UnexpectedResponseError(`${responseDescription}: ${description} instead of an event stream: ${start}`);
  }

  /** Maps a document to events. Returns an empty list if the document is neither an answer nor an error. */
  function mapToEvents(document: unknown): MappedEvent[] {
    const answer = isErrorValue(document) ? [] : (mapper.mapDocument?.(document) ?? []);
    if (answer.length > 0 || (!isErrorValue(document) && !isBareError(document))) return answer;
    return [{ type: "error", error: mapErrorFields(document, secrets) }];
  }

  function parseDocument(text: string, start: string): unknown {
    try {
      return JSON.parse(text);
    } catch {
      throw new UnexpectedResponseError(`${responseDescription}: invalid JSON: ${start}`);
    }
  }

  return {
    isComplete: () => eventReader?.isComplete() ?? false,
    push(packet) {
      if (eventReader) return eventReader.push(packet);
      totalBytes += packet.byteLength;
      if (totalBytes > DOCUMENT_BYTES_MAX)
        throw new BrokenStreamError(`a document of more than ${DOCUMENT_BYTES_MAX} bytes`);
      const end = findDocumentEnd(packet);
      // The runtime may reuse a packet's memory.
      chunks.push(new Uint8Array(packet.subarray(0, end < 0 ? packet.byteLength : end)));
      if (end >= 0) processDocument(Buffer.concat(chunks), packet.subarray(end));
    },
    end(error) {
      if (eventReader) return eventReader.end(error);
      throw error ?? new BrokenStreamError("a truncated JSON document");
    },
  };
}
