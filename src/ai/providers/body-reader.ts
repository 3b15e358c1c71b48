import { createDocumentReader } from "./document-reader.ts";
import type { AnswerSink, BodyReader, BodySource } from "./event-mapper.ts";
import { createEventReader } from "./event-reader.ts";
import { UnexpectedAnswerError } from "./unexpected-answer.ts";

/**
 * Reads an answer in any form. The first bytes decide, not the content type, which servers and proxies get wrong: a bracket
 * starts a JSON document, `<` a web page, anything else an event stream.
 */
export function createBodyReader(source: BodySource, sink: AnswerSink): BodyReader {
  const events = createEventReader(source, sink);
  let reader: BodyReader | null = null;

  /** Handles the packet with the first significant byte. */
  function begin(bytes: Uint8Array): void {
    const start = findStart(bytes);
    // Event readers ignore blank lines too, and limit how many there are.
    if (start < 0) {
      events.push(bytes);
      return;
    }
    const first = bytes[start];
    if (first === LESS_THAN) {
      const page = Buffer.from(bytes.subarray(start, start + PAGE_BYTES_MAX)).toString();
      throw new UnexpectedAnswerError(`${source.origin} instead of an event stream: ${page}`);
    }
    const isDocument = first === BRACE || first === BRACKET;
    reader = isDocument ? createDocumentReader(source, sink) : events;
    reader.push(isDocument ? bytes.subarray(start) : bytes);
  }

  return {
    push: (bytes) => (reader ? reader.push(bytes) : begin(bytes)),
    end: (fault) => (reader ?? events).end(fault),
    isComplete: () => reader?.isComplete() ?? false,
  };
}

const LESS_THAN = 0x3c;
const BRACE = 0x7b;
const BRACKET = 0x5b;
/** Length of a web page in the log. */
const PAGE_BYTES_MAX = 1_000;

/** White space and the three bytes of a byte order mark. */
const blanks = new Set([0x09, 0x0a, 0x0d, 0x20, 0xef, 0xbb, 0xbf]);

/** Index of the first significant byte, or -1. */
function findStart(bytes: Uint8Array): number {
  return bytes.findIndex((byte) => !blanks.has(byte));
}
