import {
  BrokenStreamError,
  EVENT_BYTES_MAX,
  type EventParser,
  type ServerSentEvent,
} from "../transport/event-stream.ts";
import { createBracketScanner, isOpeningBracket } from "./bracket-scanner.ts";

/** Creates a parser for consecutive JSON documents, such as JSON lines (`application/x-ndjson`). Each document is one event. */
export function createJsonEventParser(): EventParser {
  let findDocumentEnd = createBracketScanner();
  /** Packets of an incomplete document. */
  let pendingPackets: Uint8Array[] = [];
  let pendingBytes = 0;

  function addBytes(bytes: Uint8Array): void {
    pendingBytes += bytes.byteLength;
    if (pendingBytes > EVENT_BYTES_MAX) throw new BrokenStreamError(`${EVENT_BYTES_MAX} bytes without an event`);
    // The runtime may reuse a packet's memory.
    pendingPackets.push(new Uint8Array(bytes));
  }

  function finishEvent(): ServerSentEvent {
    const data = new TextDecoder().decode(Buffer.concat(pendingPackets));
    findDocumentEnd = createBracketScanner();
    pendingPackets = [];
    pendingBytes = 0;
    return { event: null, data };
  }

  return {
    push(packet) {
      const events: ServerSentEvent[] = [];
      let remainingBytes = packet;
      while (remainingBytes.byteLength > 0) {
        // Bytes between two documents are ignored.
        const start = pendingBytes > 0 ? 0 : remainingBytes.findIndex(isOpeningBracket);
        if (start < 0) break;
        remainingBytes = remainingBytes.subarray(start);
        const end = findDocumentEnd(remainingBytes);
        addBytes(end < 0 ? remainingBytes : remainingBytes.subarray(0, end));
        if (end < 0) break;
        events.push(finishEvent());
        remainingBytes = remainingBytes.subarray(end);
      }
      return events;
    },
    end: () => [],
  };
}
