// A mock model server with little overhead. It streams Chat Completions one piece at a time. The model's name contains
// the number of pieces and the delay between them in milliseconds, as in `50-20`. Timers can fire late on a busy machine,
// so `GET /intervals` returns the p99 of the actual delays since the previous `GET /intervals`.
import type { Socket } from "bun";
import { formatPiece, parseModelName } from "../support/answer-pieces.ts";
import { quantile } from "../support/quantile.ts";

type State = { text: string; timer: Timer | undefined };

const formatEvent = (delta: object, finishReason: string | null = null, usage: object | null = null): string =>
  formatChunk(
    `data: ${JSON.stringify({
      id: "chatcmpl-bench",
      object: "chat.completion.chunk",
      created: 1_760_000_000,
      model: "bench",
      choices: usage ? [] : [{ index: 0, delta, finish_reason: finishReason }],
      usage,
    })}\n\n`,
  );
const formatChunk = (text: string): string => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;

const HEAD =
  "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n";
const OPENING = HEAD + formatEvent({ role: "assistant", content: "" });
const USAGE = { prompt_tokens: 20, completion_tokens: 50, total_tokens: 70 };
const ENDING = `${formatEvent({}, "stop")}${formatEvent({}, null, USAGE)}${formatChunk("data: [DONE]\n\n")}0\r\n\r\n`;

/** The chunks, indexed by piece number minus 1. Each chunk is created when it is first sent. */
const chunks: string[] = [];
let intervalsMs: number[] = [];

function getChunk(n: number): string {
  chunks[n - 1] ??= formatEvent({ content: formatPiece(n) });
  return chunks[n - 1] ?? "";
}

function streamAnswer(socket: Socket<State>, model: string): void {
  const { pieces, delayMs } = parseModelName(model);
  let sentPieces = 1;
  let sentAtMs = performance.now();
  writeText(socket, OPENING + getChunk(sentPieces));
  socket.data.timer = setInterval(() => {
    if (sentPieces === pieces) {
      clearInterval(socket.data.timer);
      writeText(socket, ENDING);
      return;
    }
    const nowMs = performance.now();
    intervalsMs.push(nowMs - sentAtMs);
    sentAtMs = nowMs;
    sentPieces += 1;
    writeText(socket, getChunk(sentPieces));
  }, delayMs);
}

function writeText(socket: Socket<State>, text: string): void {
  const written = socket.write(text);
  // The result is negative if the client has disconnected. Partial writes are not supported.
  if (written < 0 || written === text.length) return;
  console.error("A client reads too slowly, so its connection's buffer is full.");
  process.exit(1);
}

function collectIntervals(): string {
  const sentIntervalsMs = intervalsMs;
  intervalsMs = [];
  return JSON.stringify({ p99Ms: quantile(sentIntervalsMs, 0.99) });
}

function respondToGet(socket: Socket<State>, request: string): void {
  const body = request.startsWith("GET /intervals") ? collectIntervals() : "ok";
  socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
}

Bun.listen<State>({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  socket: {
    open(socket) {
      socket.data = { text: "", timer: undefined };
    },
    data(socket, bytes) {
      socket.data.text += bytes.toString("latin1");
      const { text } = socket.data;
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) return;
      const length = Number(/content-length: *(\d+)/i.exec(text)?.[1] ?? 0);
      if (text.length < end + 4 + length) return;
      socket.data.text = "";
      if (text.startsWith("GET")) respondToGet(socket, text);
      else streamAnswer(socket, /"model":"([^"]+)"/.exec(text)?.[1] ?? "1-0");
    },
    close: ({ data }) => clearInterval(data.timer),
  },
});
