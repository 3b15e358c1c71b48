import {
  BrokenStreamError,
  EVENT_BYTES_MAX,
  type EventParser,
  type ServerSentEvent,
} from "../transport/event-stream.ts";
import { createBracketScanner, isOpeningBracket } from "./bracket-scanner.ts";

/** Creates a parser for consecutive JSON documents, such as JSON lines (`application/x-ndjson`). Each is one event. */
export function createJsonEventParser(): EventParser {
  let scan = createBracketScanner();
  /** Packets of an incomplete document. */
  let pending: Uint8Array[] = [];
  let pendingBytes = 0;

  function add(bytes: Uint8Array): void {
    pendingBytes += bytes.byteLength;
    if (pendingBytes > EVENT_BYTES_MAX) throw new BrokenStreamError(`${EVENT_BYTES_MAX} bytes without an event`);
    // The runtime may reuse a packet's memory.
    pending.push(new Uint8Array(bytes));
  }

  function finish(): ServerSentEvent {
    const data = new TextDecoder().decode(Buffer.concat(pending));
    scan = createBracketScanner();
    pending = [];
    pendingBytes = 0;
    return { event: null, data };
  }

  return {
    push(packet) {
      const events: ServerSentEvent[] = [];
      let rest = packet;
      while (rest.byteLength > 0) {
        // Bytes between two documents are ignored.
        const start = pendingBytes > 0 ? 0 : rest.findIndex(isOpeningBracket);
        if (start < 0) break;
        rest = rest.subarray(start);
        const end = scan(rest);
        add(end < 0 ? rest : rest.subarray(0, end));
        if (end < 0) break;
        events.push(finish());
        rest = rest.subarray(end);
      }
      return events;
    },
    end: () => [],
  };
}
