import { createBodyReader } from "../../src/ai/providers/body-reader.ts";
import type { EventMapper, MappedEvent } from "../../src/ai/providers/event-mapper.ts";

const encoder = new TextEncoder();

/** Formats a server-sent event. */
export const event = (name: string | null, data: unknown): string =>
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
    { mapper, origin: "HTTP 200 with text/event-stream", secrets: [] },
    {
      push(mapped) {
        if (isDone) throw new Error("a part after the end");
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
export function summarize(events: readonly (MappedEvent | Error)[]) {
  const joinTexts = (type: "text" | "reasoning") =>
    events.map((part) => (!(part instanceof Error) && part.type === type ? part.text : "")).join("");
  const last = events.at(-1);
  const describeEnd = () => {
    if (last instanceof Error) return last.constructor.name;
    if (last?.type === "finish") return last.reason;
    return last?.type === "error" ? last.error.code : "none";
  };
  const end = !(last instanceof Error) && last?.type === "finish" ? last : null;
  const calls = (end?.toolCalls ?? []).map(({ name, arguments: text }) => `${name} ${text}`);
  return {
    text: joinTexts("text"),
    reasoning: joinTexts("reasoning"),
    end: describeEnd(),
    calls,
    usage: end?.usage ?? null,
  };
}
