import { createBodyReader } from "../../src/ai/providers/body-reader.ts";
import type { EventMapper, MappedEvent } from "../../src/ai/providers/event-mapper.ts";

const encoder = new TextEncoder();

/** Formats a server-sent event. */
export const formatEvent = (name: string | null, data: unknown): string =>
  `${name === null ? "" : `event: ${name}\n`}data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;

/**
 * Reads a response body with a provider's mapper. A thrown error is the last entry of the result.
 * @param packets The packets of the body; a string is a single packet.
 */
export function readBody(
  mapper: EventMapper,
  packets: string | Iterable<string | Uint8Array>,
  connectionError: Error | null = null,
): (MappedEvent | Error)[] {
  const events: (MappedEvent | Error)[] = [];
  let isDone = false;
  const reader = createBodyReader(
    { mapper, responseDescription: "HTTP 200 with text/event-stream", secrets: [] },
    {
      push(mapped) {
        if (isDone) throw new Error("received an event after the end");
        events.push(mapped);
        isDone = mapped.type === "finish" || mapped.type === "error";
      },
      isDone: () => isDone,
    },
  );
  try {
    for (const packet of typeof packets === "string" ? [packets] : packets) {
      if (isDone) break;
      reader.push(typeof packet === "string" ? encoder.encode(packet) : packet);
    }
    if (!isDone) reader.end(connectionError);
  } catch (error) {
    events.push(error as Error);
  }
  return events;
}

/** Summarizes an answer. `end` is a finish reason, an error code, or the name of a thrown error's class. */
export function summarizeAnswer(events: readonly (MappedEvent | Error)[]) {
  const joinText = (type: "text" | "reasoning") =>
    events.map((part) => (!(part instanceof Error) && part.type === type ? part.text : "")).join("");
  const lastEvent = events.at(-1);
  const describeEnd = () => {
    if (lastEvent instanceof Error) return lastEvent.constructor.name;
    if (lastEvent?.type === "finish") return lastEvent.reason;
    return lastEvent?.type === "error" ? lastEvent.error.code : "none";
  };
  const end = !(lastEvent instanceof Error) && lastEvent?.type === "finish" ? lastEvent : null;
  const calls = (end?.toolCalls ?? []).map(({ name, arguments: text }) => `${name} ${text}`);
  return {
    text: joinText("text"),
    reasoning: joinText("reasoning"),
    end: describeEnd(),
    calls,
    usage: end?.usage ?? null,
  };
}
