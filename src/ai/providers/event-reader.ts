import { createProviderError, mapErrorText } from "../provider-error.ts";
import { createEventParser, ERROR_EVENT, type EventParser, type ServerSentEvent } from "../transport/event-stream.ts";
import type { AnswerSink, BodyReader, BodySource, MappedEvent } from "./event-mapper.ts";

/** Keep-alive events; their data may be anything. */
const pingPattern = /^(?:ping|heartbeat|keep-?_?alive)$/i;

/**
 * Reads an answer from events: server-sent events, unless another parser is given. Once the model has sent its end, the
 * answer is complete: a broken connection, an error or unreadable data after that doesn't change it.
 */
export function createEventReader(
  { mapper, origin, secrets }: BodySource,
  sink: AnswerSink,
  parser: EventParser = createEventParser(),
): BodyReader {
  let hasEvents = false;
  const isComplete = () => mapper.isComplete?.() ?? false;

  function finish(): void {
    const cause = hasEvents ? "no end marker" : `no event, in ${origin}`;
    const missing = { type: "error", error: createProviderError("provider_unavailable", cause) } as const;
    sink.take(mapper.end?.() ?? missing);
  }

  function map(event: ServerSentEvent): MappedEvent | null {
    if (event.event === ERROR_EVENT) return { type: "error", error: mapErrorText(event.data, secrets) };
    try {
      return mapper.map(event);
    } catch (error) {
      if (error instanceof SyntaxError && pingPattern.test(event.event ?? "")) return null;
      throw error;
    }
  }

  /** Some servers omit the blank lines between events, so that several arrive as one. */
  function splitLines({ event, data }: ServerSentEvent): ServerSentEvent[] {
    const lines = data.split("\n");
    return lines.length === 1 || event === ERROR_EVENT ? [] : lines.map((line) => ({ event, data: line }));
  }

  function takeEvents(events: readonly ServerSentEvent[]): void {
    for (const event of events) {
      hasEvents = true;
      let mapped: MappedEvent | null;
      try {
        mapped = map(event);
      } catch (error) {
        const lines = splitLines(event);
        if (lines.length === 0 || !(error instanceof SyntaxError)) throw error;
        takeEvents(lines);
        if (sink.isOver()) return;
        continue;
      }
      if (mapped?.type === "error" && isComplete()) finish();
      else if (mapped) sink.take(mapped);
      for (let rest = mapper.mapRest?.(); rest && !sink.isOver(); rest = mapper.mapRest?.()) sink.take(rest);
      if (sink.isOver()) return;
    }
  }

  return {
    isComplete,
    push(bytes) {
      try {
        takeEvents(parser.push(bytes));
      } catch (error) {
        if (!isComplete()) throw error;
        finish();
      }
    },
    end(fault) {
      try {
        // The last event may be complete without its blank line.
        takeEvents(parser.end());
      } catch (error) {
        if (!isComplete()) throw fault ?? error;
      }
      if (sink.isOver()) return;
      if (fault && !isComplete()) throw fault;
      finish();
    },
  };
}
