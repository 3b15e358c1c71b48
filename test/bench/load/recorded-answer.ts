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

/** Parses a recorded response. Call it after the measurement, so that it doesn't affect the results. */
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

/** Yields the events of a response, with the arrival times of the packets that completed them. */
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

/** Yields the chunks of the body, with the arrival times of the packets that completed them. */
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

/** Returns the first chunk of a chunked body, or null if it is incomplete. The last chunk is empty. */
function parseChunk(raw: string): { text: string; end: number } | null {
  const lineEnd = raw.indexOf("\r\n");
  if (lineEnd < 0) return null;
  const start = lineEnd + 2;
  const length = Number.parseInt(raw.slice(0, lineEnd), 16);
  const end = start + length + 2;
  return raw.length < end ? null : { text: raw.slice(start, start + length), end };
}
