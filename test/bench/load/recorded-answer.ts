import { PIECE_CHARS } from "../support/answer-pieces.ts";

/** A packet of a response, with its arrival time. */
export type Packet = { atMs: number; text: string };

/** How an answer is streamed: in OpenAI's Chat Completions format, or as conversation events. */
export type AnswerFormat = "chat" | "conversation";

export type RecordedAnswer = {
  text: string;
  /** The text of the final message, or null in the `chat` format. */
  finalText: string | null;
  /** Whether the stream ended with a complete answer. */
  isComplete: boolean;
  /** The arrival time of each piece. */
  pieceAtMs: number[];
};

type Draft = Omit<RecordedAnswer, "pieceAtMs">;
type Fields = { [field: string]: unknown };

/** Parses a recorded response. Call it after the measurement, so that parsing doesn't affect the results. */
export function parseAnswer(packets: Packet[], format: AnswerFormat): RecordedAnswer {
  const draft: Draft = { text: "", finalText: null, isComplete: false };
  const pieceAtMs: number[] = [];
  for (const { data, atMs } of parseEvents(packets)) {
    if (format === "chat") applyChunk(draft, data);
    else applyEvent(draft, JSON.parse(data) as Fields);
    while (pieceAtMs.length < Math.floor(draft.text.length / PIECE_CHARS)) pieceAtMs.push(atMs);
  }
  return { ...draft, pieceAtMs };
}

function applyChunk(draft: Draft, data: string): void {
  if (data === "[DONE]") {
    draft.isComplete = true;
    return;
  }
  const { choices } = JSON.parse(data) as { choices?: { delta: { content?: string } }[] };
  draft.text += choices?.[0]?.delta.content ?? "";
}

function applyEvent(draft: Draft, event: Fields): void {
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

/** Yields the data of each event in a response, with the arrival time of the packet that completed the event. */
function* parseEvents(packets: Packet[]): Generator<{ data: string; atMs: number }> {
  let incomplete = "";
  for (const { text, atMs } of parseBody(packets)) {
    const events = (incomplete + text).split("\n\n");
    incomplete = events.pop() ?? "";
    for (const event of events) {
      const data = /^data: ?(.*)$/m.exec(event)?.[1];
      if (data) yield { data, atMs };
    }
  }
}

/** Yields each chunk of the body, with the arrival time of the packet that completed the chunk. */
function* parseBody(packets: Packet[]): Generator<Packet> {
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
    for (let chunk = parseChunk(raw); chunk; chunk = parseChunk(raw)) {
      raw = raw.slice(chunk.end);
      yield { text: chunk.text, atMs };
    }
  }
}

/** Returns the first chunk of a chunked body, or null if the chunk is incomplete. The last chunk of a body is empty. */
function parseChunk(raw: string): { text: string; end: number } | null {
  const lineEnd = raw.indexOf("\r\n");
  if (lineEnd < 0) return null;
  const textStart = lineEnd + 2;
  const length = Number.parseInt(raw.slice(0, lineEnd), 16);
  const end = textStart + length + 2;
  return raw.length < end ? null : { text: raw.slice(textStart, textStart + length), end };
}
