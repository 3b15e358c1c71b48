import { isBareError, isErrorValue } from "../error-fields.ts";
import { mapErrorFields } from "../provider-error.ts";
import { BrokenStreamError } from "../transport/event-stream.ts";
import { createBracketScanner } from "./bracket-scanner.ts";
import type { AnswerSink, BodyReader, BodySource, MappedEvent } from "./event-mapper.ts";
import { createEventReader } from "./event-reader.ts";
import { createJsonEventParser } from "./json-events.ts";
import { UnexpectedAnswerError } from "./unexpected-answer.ts";

/** Largest document read as an answer, in bytes; even the longest answer with its JSON is far smaller. */
export const DOCUMENT_BYTES_MAX = 16 * 1024 * 1024;

/** UTF-16 units of a document that are logged. */
const START_LENGTH_MAX = 300;

/**
 * Reads an answer from one JSON document, which some servers send instead of the requested stream. It ends with its last
 * bracket, even if the body doesn't. If the first document is an event, the body is a stream of such documents.
 */
export function createDocumentReader(source: BodySource, sink: AnswerSink): BodyReader {
  const { mapper, origin, secrets } = source;
  const scan = createBracketScanner();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  let events: BodyReader | null = null;

  function read(first: Uint8Array, rest: Uint8Array): void {
    const text = new TextDecoder().decode(first);
    const start = text.slice(0, START_LENGTH_MAX);
    const document = parse(text, start);
    if (mapper.isEvent?.(document)) {
      events = createEventReader(source, sink, createJsonEventParser());
      events.push(first);
      if (!sink.isOver()) events.push(rest);
      return;
    }
    for (const event of map(document)) if (!sink.isOver()) sink.take(event);
    if (sink.isOver()) return;
    const hasMore = Buffer.from(rest).toString().trim() !== "";
    const what = hasMore ? "several JSON documents" : "a JSON document";
    throw new UnexpectedAnswerError(`${origin}: ${what} instead of an event stream: ${start}`);
  }

  /** Empty: neither an answer nor an error. */
  function map(document: unknown): MappedEvent[] {
    const answer = isErrorValue(document) ? [] : (mapper.mapWhole?.(document) ?? []);
    if (answer.length > 0 || (!isErrorValue(document) && !isBareError(document))) return answer;
    return [{ type: "error", error: mapErrorFields(document, secrets) }];
  }

  function parse(text: string, start: string): unknown {
    try {
      return JSON.parse(text);
    } catch {
      throw new UnexpectedAnswerError(`${origin}: no valid JSON: ${start}`);
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
      if (end >= 0) read(Buffer.concat(chunks), packet.subarray(end));
    },
    end(fault) {
      if (events) return events.end(fault);
      throw fault ?? new BrokenStreamError("a JSON document that breaks off");
    },
  };
}
