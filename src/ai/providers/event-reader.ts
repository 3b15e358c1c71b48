import { createProviderError, mapErrorText } from "../provider-error.ts";
import { createEventParser, ERROR_EVENT, type EventParser, type ServerSentEvent } from "../transport/event-stream.ts";
import type { AnswerSink, BodyReader, BodySource, MappedEvent } from "./event-mapper.ts";

/** Names of keep-alive events, whose data isn't always JSON. */
const pingPattern = /^(?:ping|heartbeat|keep-?_?alive)$/i;

/**
 * Creates a reader for an event stream. Errors after the answer is complete are ignored, including a broken connection and
 * invalid data.
 */
export function createEventReader(
  { mapper, responseDescription, secrets }: BodySource,
  sink: AnswerSink,
  parser: EventParser = createEventParser(),
): BodyReader {
  let hasEvents = false;
  const isComplete = () => mapper.isComplete?.() ?? false;

  function finish(): void {
    const cause = hasEvents ? "no end marker" : `no events in the response (${responseDescription})`;
    const missingEndError = { type: "error", error: createProviderError("provider_unavailable", cause) } as const;
    sink.push(mapper.end?.() ?? missingEndError);
  }

  function mapEvent(event: ServerSentEvent): MappedEvent | null {
    if (event.event === ERROR_EVENT) return { type: "error", error: mapErrorText(event.data, secrets) };
    try {
      return mapper.map(event);
    } catch (error) {
      if (error instanceof SyntaxError && pingPattern.test(event.event ?? "")) return null;
      throw error;
    }
  }

  /** Splits an event that contains several events, because the server omitted the blank lines between them. */
  function splitLines({ event, data }: ServerSentEvent): ServerSentEvent[] {
    const lines = data.split("\n");
    return lines.length === 1 || event === ERROR_EVENT ? [] : lines.map((line) => ({ event, data: line }));
  }

  function processEvents(events: readonly ServerSentEvent[]): void {
    for (const event of events) {
      hasEvents = true;
      let mapped: MappedEvent | null;
      try {
        mapped = mapEvent(event);
      } catch (error) {
        const lines = splitLines(event);
        if (lines.length === 0 || !(error instanceof SyntaxError)) throw error;
        processEvents(lines);
        if (sink.isDone()) return;
        continue;
      }
      if (mapped?.type === "error" && isComplete()) finish();
      else if (mapped) sink.push(mapped);
      for (let nextPart = mapper.mapNext?.(); nextPart && !sink.isDone(); nextPart = mapper.mapNext?.())
        sink.push(nextPart);
      if (sink.isDone()) return;
    }
  }

  return {
    isComplete,
    push(bytes) {
      try {
        processEvents(parser.push(bytes));
      } catch (error) {
        if (!isComplete()) throw error;
        finish();
      }
    },
    end(connectionError) {
      try {
        // The last event may lack its blank line.
        processEvents(parser.end());
      } catch (error) {
        if (!isComplete()) throw connectionError ?? error;
      }
      if (sink.isDone()) return;
      if (connectionError && !isComplete()) throw connectionError;
      finish();
    },
  };
}
