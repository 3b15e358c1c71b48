import { PIECE_CHARS } from "../support/pieces.ts";

/** A packet of a response, and its arrival time. */
export type Packet = { atMs: number; text: string };

/** How an answer is streamed: as OpenAI's Chat Completions, or as events of Parley's conversations. */
export type AnswerFormat = "chat" | "conversation";

export type RecordedAnswer = {
  text: string;
  /** The text of the message in its final form, if the format has it. */
  finalText: string | null;
  /** Whether the stream ended as a complete answer. */
  isComplete: boolean;
  /** When each piece had completely arrived. */
  pieceAtMs: number[];
};

type Draft = Omit<RecordedAnswer, "pieceAtMs">;
type Fields = { [field: string]: unknown };

/** Parses a recorded response after the measurement, so that parsing does not disturb it. */
export function readAnswer(packets: Packet[], format: AnswerFormat): RecordedAnswer {
  const draft: Draft = { text: "", finalText: null, isComplete: false };
  const pieceAtMs: number[] = [];
  for (const { data, atMs } of readEvents(packets)) {
    if (format === "chat") takeChunk(draft, data);
    else takeEvent(draft, JSON.parse(data) as Fields);
    while (pieceAtMs.length < Math.floor(draft.text.length / PIECE_CHARS)) pieceAtMs.push(atMs);
  }
  return { ...draft, pieceAtMs };
}

function takeChunk(draft: Draft, data: string): void {
  if (data === "[DONE]") {
    draft.isComplete = true;
    return;
  }
  const { choices } = JSON.parse(data) as { choices?: { delta: { content?: string } }[] };
  draft.text += choices?.[0]?.delta.content ?? "";
}

function takeEvent(draft: Draft, event: Fields): void {
  const message = event.data as Fields | undefined;
  if (event.type === "message.delta") draft.text += event.text;
  else if (event.type === "message.reset") draft.text = String(event.text);
  else if (message?.role !== "assistant") return;
  else if (event.type === "message.created") draft.text = String(message.content);
  else if (event.type === "message.completed") {
    draft.finalText = String(message.content);
    draft.isComplete = message.status === "complete";
  }
}

/** The events of a response's body, each with the time of the packet that completed it. */
function* readEvents(packets: Packet[]): Generator<{ data: string; atMs: number }> {
  let rest = "";
  for (const { text, atMs } of readBody(packets)) {
    const events = (rest + text).split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) {
      const data = /^data: ?(.*)$/m.exec(event)?.[1];
      if (data) yield { data, atMs };
    }
  }
}

/** The part of the body in each packet, without the head and the chunk framing. */
function* readBody(packets: Packet[]): Generator<Packet> {
  let raw = "";
  let isInBody = false;
  for (const { text, atMs } of packets) {
    raw += text;
    if (!isInBody) {
      const end = raw.indexOf("\r\n\r\n");
      if (end < 0) continue;
      isInBody = true;
      raw = raw.slice(end + 4);
    }
    for (let chunk = readChunk(raw); chunk; chunk = readChunk(raw)) {
      raw = raw.slice(chunk.end);
      yield { text: chunk.text, atMs };
    }
  }
}

/** The first chunk of a chunked body; null if it is incomplete. The last one is empty. */
function readChunk(raw: string): { text: string; end: number } | null {
  const lineEnd = raw.indexOf("\r\n");
  if (lineEnd < 0) return null;
  const start = lineEnd + 2;
  const length = Number.parseInt(raw.slice(0, lineEnd), 16);
  const end = start + length + 2;
  return raw.length < end ? null : { text: raw.slice(start, start + length), end };
}
