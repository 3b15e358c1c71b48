import { createBodyReader } from "../../src/ai/providers/body-reader.ts";
import type { EventMapper, MappedEvent } from "../../src/ai/providers/event-mapper.ts";

const encoder = new TextEncoder();

/** An event in wire format. */
export const event = (name: string | null, data: unknown): string =>
  `${name === null ? "" : `event: ${name}\n`}data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;

/**
 * Reads a body with a provider's mapper, as for an answer. A thrown error is the last entry of the result.
 * @param packets sent as they are; a string is one packet.
 */
export function readBody(
  mapper: EventMapper,
  packets: string | Iterable<string | Uint8Array>,
  fault: Error | null = null,
): (MappedEvent | Error)[] {
  const taken: (MappedEvent | Error)[] = [];
  let isOver = false;
  const reader = createBodyReader(
    { mapper, origin: "HTTP 200 with text/event-stream", secrets: [] },
    {
      take(mapped) {
        if (isOver) throw new Error("a part after the end");
        taken.push(mapped);
        isOver = mapped.type === "finish" || mapped.type === "error";
      },
      isOver: () => isOver,
    },
  );
  try {
    for (const packet of typeof packets === "string" ? [packets] : packets) {
      if (isOver) break;
      reader.push(typeof packet === "string" ? encoder.encode(packet) : packet);
    }
    if (!isOver) reader.end(fault);
  } catch (error) {
    taken.push(error as Error);
  }
  return taken;
}

/** Summarizes texts, reasoning and the end: a finish reason, an error code, or the class of the thrown error. */
export function summarize(taken: readonly (MappedEvent | Error)[]) {
  const texts = (type: "text" | "reasoning") =>
    taken.map((part) => (!(part instanceof Error) && part.type === type ? part.text : "")).join("");
  const last = taken.at(-1);
  const nameEnd = () => {
    if (last instanceof Error) return last.constructor.name;
    if (last?.type === "finish") return last.reason;
    return last?.type === "error" ? last.error.code : "none";
  };
  const end = !(last instanceof Error) && last?.type === "finish" ? last : null;
  const calls = (end?.toolCalls ?? []).map(({ name, arguments: text }) => `${name} ${text}`);
  return { text: texts("text"), reasoning: texts("reasoning"), end: nameEnd(), calls, usage: end?.usage ?? null };
}
