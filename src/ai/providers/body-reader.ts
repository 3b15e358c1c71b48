import { createDocumentReader } from "./document-reader.ts";
import type { AnswerSink, BodyReader, BodySource } from "./event-mapper.ts";
import { createEventReader } from "./event-reader.ts";
import { UnexpectedResponseError } from "./unexpected-response.ts";

/**
 * Creates a reader for a response body in any format. The first byte determines the format, because the content type is often
 * incorrect. A bracket starts a JSON document, `<` starts a web page, and anything else starts an event stream.
 */
export function createBodyReader(source: BodySource, sink: AnswerSink): BodyReader {
  const events = createEventReader(source, sink);
  let reader: BodyReader | null = null;

  /** Chooses the reader as soon as a packet contains a significant byte. */
  function chooseReader(bytes: Uint8Array): void {
    const start = findFirstSignificantByte(bytes);
    // The event reader ignores blank lines and limits their number.
    if (start < 0) {
      events.push(bytes);
      return;
    }
    const firstByte = bytes[start];
    if (firstByte === LESS_THAN) {
      const page = Buffer.from(bytes.subarray(start, start + PAGE_BYTES_MAX)).toString();
      throw new UnexpectedResponseError(`${source.responseDescription} instead of an event stream: ${page}`);
    }
    const isDocument = firstByte === BRACE || firstByte === BRACKET;
    reader = isDocument ? createDocumentReader(source, sink) : events;
    reader.push(isDocument ? bytes.subarray(start) : bytes);
  }

  return {
    push: (bytes) => (reader ? reader.push(bytes) : chooseReader(bytes)),
    end: (error) => (reader ?? events).end(error),
    isComplete: () => reader?.isComplete() ?? false,
  };
}

const LESS_THAN = 0x3c;
const BRACE = 0x7b;
const BRACKET = 0x5b;
/** Maximum length of a logged web page. */
const PAGE_BYTES_MAX = 1_000;

/** Whitespace and the three bytes of a byte order mark. */
const insignificantBytes = new Set([0x09, 0x0a, 0x0d, 0x20, 0xef, 0xbb, 0xbf]);

/** Returns the index of the first significant byte, or -1. */
function findFirstSignificantByte(bytes: Uint8Array): number {
  return bytes.findIndex((byte) => !insignificantBytes.has(byte));
}
